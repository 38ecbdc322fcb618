"""A wait as a value: for what, how long, how often; its error reports the last observation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from blocks.errors import TimedOut, Transient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending:
    """A probe's answer for "not yet". `seen` is the observation as text; `percent` is for progress, None leaves it unchanged."""

    seen: str
    percent: float | None = None


@dataclass(frozen=True)
class Until(Generic[T]):
    """Waits until `probe` returns something else than Pending, and returns that."""

    what: str
    """The thing to wait for, as in "waited 20 s for {what}"."""
    probe: Callable[[], T | Pending]
    """Called at every attempt. A Transient error counts as Pending; every other error ends the wait."""
    within: float
    """Seconds until the wait fails."""
    every: float = 1.0
    """Seconds between two probes."""
    on_pending: Callable[[Pending], None] = lambda pending: None
    """Called with every Pending."""

    def wait(self) -> T:
        """Wait, and return the probe's result.

        Raises:
            TimedOut: there was none within the time; the message has the last observation.
        """
        start = time.monotonic()
        while True:
            try:
                found = self.probe()
            except Transient as error:
                found = Pending(str(error))
            if not isinstance(found, Pending):
                return found
            self.on_pending(found)
            waited = time.monotonic() - start
            if waited + self.every > self.within:
                raise TimedOut(f"waited {waited:.0f} s for {self.what}; last seen: {found.seen}")
            time.sleep(self.every)
