"""A terminal as the display of a drill: a line for each step, how far it is, and the verdict."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import suppress
from typing import TextIO

from drills.evidence import Evidence
from drills.report.terminal import summary
from drills.series import SeriesEvidence
from drills.stages.run import Progress, Result

EVERY_S = 5.0
"""Seconds between two lines of one step."""
WIDTH = 150
"""Columns of a line where the output is no terminal."""


class Terminal:
    """Writes to a stream; every line begins with the seconds since the start."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out, self._began = out or sys.stderr, time.monotonic()

    def progress(self, key: str) -> Step:
        """Return the progress of a stage."""
        return Step(self, key)

    def say(self, text: str, *, warning: bool = False) -> None:
        """Write one line of text, whole."""
        self.line("warning" if warning else "", text, whole=True)

    def line(self, key: str, text: str, *, whole: bool = False) -> None:
        """Write one line of a step, cut to the width of the terminal unless it must be whole. A reader that is gone does not end the
        drill."""
        passed = time.monotonic() - self._began
        with suppress(OSError, ValueError):
            width = shutil.get_terminal_size((WIDTH, 0)).columns if self._out.isatty() else WIDTH
            line = f"{passed:5.0f} s  {key:13} {' '.join(text.split())}"
            print(line if whole else line[:width], file=self._out, flush=True)

    def judged(self, found: Evidence | SeriesEvidence, result: Result) -> None:
        """Write the verdict, the promises and the reasons to standard output."""
        evidence = "series.json" if isinstance(found, SeriesEvidence) else "evidence.json"
        with suppress(OSError, ValueError):  # as above; the exit code says what the verdict is
            print(summary(found, colour=coloured(sys.stdout)), end="")
            print(f"  report    {result.folder / result.page}\n  evidence  {result.folder / evidence}", flush=True)


def coloured(out: TextIO) -> bool:
    """Whether the stream is a terminal that shows colours, and its user wants them (https://no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Step(Progress):
    """Progress of one stage: a line when it begins to say something else, every few seconds at most, and one at its end."""

    def __init__(self, terminal: Terminal, key: str) -> None:
        self._terminal, self._key, self._last, self._text = terminal, key, float("-inf"), ""

    def show(self, percent: float | None, text: str) -> None:
        """Show this, unless a line was written less than some seconds ago."""
        now = time.monotonic()
        if text == self._text or (percent != 100 and now - self._last < EVERY_S):
            return
        self._text, self._last = text, now
        self._terminal.line(self._key, text)
