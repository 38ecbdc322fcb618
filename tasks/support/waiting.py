"""Waiting as a value: what for, how long, how often; its error says what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from blocks.errors import TimedOut, Transient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending:
    """A probe's answer: not yet. The text says what was seen; percent is for progress, None leaves it as it was."""

    seen: str
    percent: float | None = None


@dataclass(frozen=True)
class Until(Generic[T]):
    """Waits until `probe` answers with something else than Pending, and returns that."""

    what: str
    """What is waited for, as in "waited 20 s for {what}"."""
    probe: Callable[[], T | Pending]
    """A Transient error from it is one more thing seen; every other error ends the wait."""
    within: float
    """Seconds."""
    every: float = 1.0
    """Seconds between two probes."""
    on_pending: Callable[[Pending], None] = lambda seen: None
    """Told after every look that did not end the wait."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def wait(self) -> T:
        """What the probe found.

        Raises:
            TimedOut: not within the time; says what was seen last.
        """
        start = self.clock()
        while True:
            try:
                found = self.probe()
            except Transient as error:
                found = Pending(str(error))
            if not isinstance(found, Pending):
                return found
            self.on_pending(found)
            waited = self.clock() - start
            if waited + self.every > self.within:
                raise TimedOut(f"waited {waited:.0f} s for {self.what}; last seen: {found.seen}")
            self.sleep(self.every)
