"""Progress of long work, as plain lines that read well in a terminal and in a log alike."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

Report = Callable[[str], None]
"""Takes one line about a step that is under way."""


def seconds(value: float) -> str:
    """A duration for people: "7 s", "4 min 02 s"."""
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Pace:
    """When to say that something goes on: soon at first, then less and less often, at least twice a minute."""

    def __init__(self, first: float = 5.0, longest: float = 30.0) -> None:
        self._started = self._said = time.monotonic()
        self._first, self._longest = first, longest

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def due(self) -> bool:
        """Whether a line is due now; then it counts as said."""
        now = time.monotonic()
        if now - self._said < min(max(self._first, (now - self._started) / 2), self._longest):
            return False
        self._said = now
        return True


class Reporter:
    """Writes one line at a time, whichever thread it comes from."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._lock = threading.Lock()

    def line(self, step: str, text: str) -> None:
        """`text` stands on a line of its own beside the name of its step."""
        with self._lock:
            print(f"{step:<24} {text}", file=self._stream, flush=True)

    def for_step(self, step: str) -> Report:
        """A function that writes lines about `step`."""
        return lambda text: self.line(step, text)
