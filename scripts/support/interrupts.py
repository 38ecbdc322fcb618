"""Ctrl-C, Ctrl-\\, SIGTERM and SIGHUP (a closed terminal), turned into one exception that is raised once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Self

from scripts.support.console import Console
from startup import streams

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupted(BaseException):
    """The user wants to stop. Like KeyboardInterrupt it is no Exception, so handlers of ordinary errors do not catch it."""


class Interrupts:
    """Context manager in which the first signal raises `Interrupted`, and every later one only prints the current activity."""

    def __init__(self, console: Console, activity: str = "stopping") -> None:
        self._console = console
        self._before: dict[signal.Signals, object] = {}
        self.activity = activity
        """What is being done about the first signal; printed at every later one."""
        self.shielded = False
        """Set while cleaning up: signals print `activity` and interrupt nothing."""

    def __enter__(self) -> Self:
        # `nohup` ignores SIGHUP so that its program outlives the terminal. An ignored SIGINT only means "in the background".
        caught = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in caught}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # it came from signal.signal

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        streams.hurry()
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self.shielded:
            self._console.print("stop", f"{name}: {self.activity}")
            return
        self.shielded = True
        raise Interrupted(name)
