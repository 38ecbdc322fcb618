"""Progress lines: seconds since the start, who speaks, what happened."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO


class Say:
    """Writes `   12 s  cloud      text` lines; the clock starts when it is made."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stdout
        self._clock = clock
        self._start = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def __call__(self, who: str, text: str) -> None:
        """One progress line per line of `text`, at once on the terminal."""
        for line in text.splitlines() or [""]:
            self._out.write(f"{self.elapsed:6.0f} s  {who:<11} {line}\n")
        self._out.flush()


def duration(seconds: float) -> str:
    """`47 s`, `3 min 05 s`: for people."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
