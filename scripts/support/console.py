"""Progress on the terminal: seconds since the start, the source, what happened. Details are for `--verbose`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

QUIET_S = 30.0
"""Seconds without a line after which a detail is printed as a sign of life, where there is no terminal to show it in place."""


class Console:
    """Writes lines such as `   12 s  cloud      text`; the clock starts when the object is made."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic, *, verbose: bool = True) -> None:
        self.verbose = verbose
        self._out = out or sys.stdout
        self._clock = clock
        self._start = self._printed = clock()
        self._in_place = self._out.isatty()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def print(self, source: str, text: str) -> None:
        """Write one progress line per line of `text` and flush."""
        for line in text.splitlines() or [""]:
            self._out.write(f"{self._clear}{self._line(source, line)}\n")
        self._out.flush()
        self._printed = self._clock()

    def detail(self, source: str, text: str) -> None:
        """Write lines that only `--verbose` shows. Without it the last one stands below the others on a terminal, until the next comes."""
        if self.verbose:
            self.print(source, text)
            return
        last = (text.splitlines() or [""])[-1].strip()
        if self._in_place:
            self._out.write(f"{self._clear}{self._line(source, last)[: shutil.get_terminal_size().columns - 1]}")
            self._out.flush()
        elif self._clock() - self._printed > QUIET_S:
            self.print(source, f"… {last.removeprefix('… ')}")

    def done(self) -> None:
        """Remove a detail that stands below the lines, before something else is printed."""
        self._out.write(self._clear)
        self._out.flush()

    @property
    def _clear(self) -> str:
        return "\r\x1b[K" if self._in_place and not self.verbose else ""

    def _line(self, source: str, text: str) -> str:
        return f"{self.elapsed:6.0f} s  {source:<11} {text}"
