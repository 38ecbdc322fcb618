"""Programs that the pipeline starts: with a deadline, their output followed line by line, ended together with the pipeline."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from blocks.errors import Permanent

LAST_LINES = 15
GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL."""


class CommandFailed(Permanent):
    """A program failed, or took too long; the message has its last lines."""


def run(
    argv: Sequence[str],
    *,
    within_s: float,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> str:
    """Run the program and return what it printed. Secrets belong into its environment or files, never into argv.

    Raises:
        CommandFailed: its exit code is not 0, or it was stopped at the deadline.
    """
    # No session of its own: when the flow run's process group is ended, the program ends too.
    popen = subprocess.Popen(
        argv,
        cwd=cwd,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with popen:  # closes the pipe
        try:
            text = _follow(popen, argv, time.monotonic() + within_s, on_line)
        except BaseException:
            _end(popen)
            raise
    if popen.returncode:
        raise CommandFailed(f"{_name(argv)} ended with exit code {popen.returncode}; its last lines:\n{_last(text)}")
    return text


def _follow(popen: subprocess.Popen[bytes], argv: Sequence[str], deadline: float, on_line: Callable[[str], None]) -> str:
    assert popen.stdout
    pieces: list[bytes] = []
    rest = b""
    os.set_blocking(popen.stdout.fileno(), False)
    with selectors.DefaultSelector() as ready:
        ready.register(popen.stdout, selectors.EVENT_READ)
        while True:
            if time.monotonic() > deadline:
                raise CommandFailed(
                    f"{_name(argv)} was stopped at its deadline; its last lines:\n{_last(b''.join(pieces).decode(errors='replace'))}"
                )
            if not ready.select(timeout=1.0):
                continue
            piece = os.read(popen.stdout.fileno(), 65536)
            if not piece:
                popen.wait()
                return b"".join(pieces).decode(errors="replace")
            pieces.append(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace").rstrip())


def _end(popen: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _last(text: str) -> str:
    return "\n".join(deque((line for line in text.splitlines() if line.strip()), maxlen=LAST_LINES))


def _name(argv: Sequence[str]) -> str:
    return " ".join(argv[:2])
