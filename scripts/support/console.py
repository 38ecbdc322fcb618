"""Progress lines on the terminal: seconds since the start, the source, what happened."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO


class Console:
    """Writes lines such as `   12 s  cloud      text`; the clock starts when the object is made."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stdout
        self._clock = clock
        self._start = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def print(self, source: str, text: str) -> None:
        """Write one progress line per line of `text` and flush."""
        for line in text.splitlines() or [""]:
            self._out.write(f"{self.elapsed:6.0f} s  {source:<11} {line}\n")
        self._out.flush()


def duration(seconds: float) -> str:
    """A duration for people: `47 s`, `3 min 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
