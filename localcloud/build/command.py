"""Runs other programs for a build: with their output in a log, progress, a deadline, and the log's last lines in the error.

Programs run in sessions of their own, so that a Ctrl-C reaches this process alone, and it decides what is stopped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from localcloud import paths
from localcloud.files import last_lines
from localcloud.progress import Pace, Report, format_seconds

_POLL = 0.2
_LAST_LINES = 15
_APT_WITHIN = 300.0
"""Seconds that an interrupted build waits for apt."""

Follow = Callable[[str], str]
"""Function from a line of output to the program's progress, in a few words."""


class BuildError(RuntimeError):
    """A failed build or installation; the text names what, why, and where to look."""


class _Children:
    """The programs that run now, kept so that an interrupted build can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[subprocess.Popen[bytes], bool] = {}
        self._stopping = False

    def start(
        self, argv: Sequence[str], log: BinaryIO, env: Mapping[str, str], cwd: Path | None, interruptible: bool
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopping:
                raise BuildError("interrupted")
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=cwd, start_new_session=True
            )
            self._running[child] = interruptible
            return child

    def ended(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.pop(child, None)

    def stop(self) -> list[subprocess.Popen[bytes]]:
        """End the programs that may be interrupted; return the others, which end by themselves. No program can start after that."""
        with self._lock:
            self._stopping = True
            children = dict(self._running)
        for child, interruptible in children.items():
            if interruptible:
                end(child)
        return [child for child, interruptible in children.items() if not interruptible]


_children = _Children()


def end(child: subprocess.Popen[bytes]) -> None:
    """End the program and its process group: by SIGTERM, and after ten seconds by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
            return


def stop_all(report: Report) -> None:
    """End every program of run_logged(). One that must not be interrupted (apt) gets time to finish."""
    deadline = time.monotonic() + _APT_WITHIN
    for child in _children.stop():
        report(f"waiting up to {format_seconds(_APT_WITHIN)} for the package installation (pid {child.pid}) to finish")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))


def new_log(name: str) -> Path:
    """Return the path of the log of this name, which does not exist any more if an earlier build left it."""
    log = paths.build_logs_dir() / f"{name}.log"
    log.unlink(missing_ok=True)
    return log


def run_logged(
    argv: Sequence[str],
    *,
    what: str,
    log: Path,
    report: Report,
    deadline: float,
    doing: str = "running",
    follow: Follow | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    interruptible: bool = True,
) -> None:
    """Run a program that must end with 0 within `deadline` seconds; its output is appended to `log`.

    `follow` gets each line of output; what it returned last (before that, `doing`) is reported now and then. A program that
    may be interrupted also ends with this process, even when this is killed. BuildError contains the log's last lines.
    """
    if interruptible and (setpriv := shutil.which("setpriv")):
        argv = [setpriv, "--pdeathsig", "TERM", "--", *argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink, log.open("rb") as source:
        sink.write(f"$ {' '.join(argv)}\n".encode())
        sink.flush()
        source.seek(0, os.SEEK_END)
        started = time.monotonic()
        try:
            child = _children.start(argv, sink, env if env is not None else os.environ, cwd, interruptible)
        except FileNotFoundError as error:
            raise BuildError(f"{what}: {argv[0]} is not installed") from error
        try:
            code = _watch(child, source, follow or (lambda _: doing), doing, report, started + deadline)
        finally:
            _children.ended(child)
    took = format_seconds(time.monotonic() - started)
    if code is None:
        raise BuildError(f"{what} was not done after {took} and was stopped. Last lines of {log}:\n{last_lines(log, _LAST_LINES)}")
    if code != 0:
        raise BuildError(f"{what} failed after {took} ({_ending(code)}). Last lines of {log}:\n{last_lines(log, _LAST_LINES)}")


def _ending(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"


def _watch(child: subprocess.Popen[bytes], source: BinaryIO, follow: Follow, status: str, report: Report, deadline: float) -> int | None:
    """Return the exit code, or None when the program was stopped at the deadline (monotonic time)."""
    pace, unfinished = Pace(), b""
    while True:
        code = child.poll()
        *lines, unfinished = (unfinished + source.read()).split(b"\n")
        for line in lines:
            status = follow(line.decode(errors="replace"))
        if code is not None:
            return code
        if time.monotonic() > deadline:
            end(child)
            return None
        if pace.due():
            report(f"{format_seconds(pace.elapsed)}: {status}")
        time.sleep(_POLL)
