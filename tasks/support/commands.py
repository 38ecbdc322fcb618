"""Programs that the pipeline starts: with a deadline, their output followed line by line, ended together with the pipeline."""

from __future__ import annotations

import math
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
    quiet_s: float = math.inf,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> str:
    """Run the program and return its standard output; `on_line` gets the lines of standard error, too.

    Secrets belong into its environment or files, never into argv.

    Args:
        argv: Program and arguments.
        within_s: Seconds after which it is stopped.
        quiet_s: Seconds without a line of output after which it is stopped: it makes no progress.
        cwd: Its working directory; None: the present one.
        environment: Its environment; None: the present one.
        on_line: Called with every line.

    Raises:
        CommandFailed: its exit code is not 0, or it was stopped at a deadline.
    """
    # No session of its own: when the flow run's process group is ended, the program ends too.
    popen = subprocess.Popen(
        argv,
        cwd=cwd,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err, last = _Lines(), _Lines(), deque[str](maxlen=LAST_LINES)

    def keep(line: str) -> None:
        if line.strip():
            last.append(line)
        on_line(line)

    with popen:  # closes the pipes
        try:
            _follow(popen, out, err, time.monotonic() + within_s, quiet_s, keep)
        except _Late as late:
            _end(popen)
            raise CommandFailed(f"{_name(argv)} was stopped {late}; its last lines:\n" + "\n".join(last)) from None
        except BaseException:
            _end(popen)
            raise
    if popen.returncode:
        raise CommandFailed(f"{_name(argv)} ended with exit code {popen.returncode}; its last lines:\n" + "\n".join(last))
    return out.text


class _Late(Exception):
    """A deadline of a program has passed; the text says which."""


class _Lines:
    """What came from one stream, and which lines of it are complete."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._rest = b""

    @property
    def text(self) -> str:
        """All that came so far."""
        return b"".join(self._pieces).decode(errors="replace")

    def add(self, piece: bytes) -> list[str]:
        """Add a piece, empty at the end of the stream; return the lines that are complete now."""
        self._pieces.append(piece)
        if piece:
            *lines, self._rest = (self._rest + piece).split(b"\n")
        else:
            lines, self._rest = [self._rest] if self._rest else [], b""
        return [line.decode(errors="replace").rstrip() for line in lines]


def _follow(
    popen: subprocess.Popen[bytes], out: _Lines, err: _Lines, deadline: float, quiet_s: float, on_line: Callable[[str], None]
) -> None:
    assert popen.stdout
    assert popen.stderr
    with selectors.DefaultSelector() as ready:
        for stream, lines in ((popen.stdout, out), (popen.stderr, err)):
            os.set_blocking(stream.fileno(), False)
            ready.register(stream, selectors.EVENT_READ, lines)
        heard = time.monotonic()
        while ready.get_map():
            if time.monotonic() > deadline:
                raise _Late("at its deadline")
            if time.monotonic() > heard + quiet_s:
                raise _Late(f"after {quiet_s:.0f} s without any output")
            for key, _ in ready.select(timeout=1.0):
                piece = os.read(key.fd, 65536)
                heard = time.monotonic()
                for line in key.data.add(piece):
                    on_line(line)
                if not piece:
                    ready.unregister(key.fileobj)
    popen.wait()


def _end(popen: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _name(argv: Sequence[str]) -> str:
    return " ".join(argv[:2])
