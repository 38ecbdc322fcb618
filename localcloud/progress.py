"""Progress of long work, as plain lines for a terminal or a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

Report = Callable[[str], None]
"""Function that prints one line about a step that is under way."""


def format_seconds(value: float) -> str:
    """Format a duration: "7 s", "4 min 02 s"."""
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Pace:
    """The times of progress lines: the first one soon, then less and less often, but at least two a minute."""

    def __init__(self, first: float = 5.0) -> None:
        self._started = self._reported = time.monotonic()
        self._first = first

    @property
    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._started

    def due(self) -> bool:
        """Return whether a line is due now; if so, it counts as printed."""
        now = time.monotonic()
        if now - self._reported < min(max(self._first, (now - self._started) / 2), 30.0):
            return False
        self._reported = now
        return True


class Reporter:
    """Writes progress lines, one at a time, from any thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._lock = threading.Lock()

    def line(self, step: str, text: str) -> None:
        """Write `text` on a line of its own, after the name of its step."""
        with self._lock:
            print(f"{step:<24} {text}", file=self._stream, flush=True)

    def for_step(self, step: str) -> Report:
        """Return a function that writes lines about `step`."""
        return lambda text: self.line(step, text)
