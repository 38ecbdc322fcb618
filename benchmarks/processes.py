"""A process and its descendants: paused, resumed, ended, and the processor time of each."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ENDED_WITHIN_S = 30.0

_libc = ctypes.CDLL(None, use_errno=True)


class Processes:
    """A running program with its descendants."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], log: BinaryIO, *, piped: bool = False) -> None:
        """Start the program; its output goes to `log`. `piped`: standard input and output are pipes instead."""
        pipe = subprocess.PIPE if piped else None
        self.first = subprocess.Popen(
            argv,
            env={**os.environ, **env},
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or log,
            stderr=log,
            start_new_session=True,
            # A process that loses its parent becomes a child of the first one: daemons (Ray has several) are descendants, too.
            preexec_fn=_become_subreaper,
        )

    def pids(self) -> list[int]:
        """Return the living processes, parents before their children."""
        return list(_descendants(self.first.pid, _children()))

    def pause(self) -> None:
        """Stop all processes until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let all paused processes continue."""
        self._signal(signal.SIGCONT)

    def cpu_s(self) -> dict[str, float]:
        """Return the processor seconds of each process so far, by name; processes with the same name are added up."""
        spent: dict[str, float] = {}
        for pid in self.pids():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                name = _name(pid)
                spent[name] = spent.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        return spent

    def end(self) -> None:
        """Kill all processes.

        Raises:
            TimeoutError: one is left after `ENDED_WITHIN_S`.
        """
        deadline = time.monotonic() + ENDED_WITHIN_S
        # Children of a killed process become children of the first, which is therefore killed last.
        while (left := self.pids()[1:]) and time.monotonic() < deadline:
            _kill(left, signal.SIGKILL)
            time.sleep(0.05)
        self.first.kill()
        self.first.wait(ENDED_WITHIN_S)
        for pipe in (self.first.stdin, self.first.stdout):
            if pipe:
                pipe.close()
        if left:
            raise TimeoutError(f"processes {left} do not end")

    def _signal(self, number: signal.Signals) -> None:
        # Twice: a process that was started in between is found the second time.
        for _ in range(2):
            _kill(self.pids(), number)


def _become_subreaper() -> None:
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _kill(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    children.setdefault(int(parent), []).append(int(folder.name))
    return children


def _descendants(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, []):
        yield from _descendants(child, children)


def _name(pid: int) -> str:
    """Return a process's name: for one of Ray's `ray::ServeReplica:default:engine`; for others the program, or the module that Python
    runs."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").split()
    if not words:
        return "?"
    if words[0].startswith("ray::"):
        # Without the method that the actor is running.
        return words[0].partition(".")[0]
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    script = next((word for word in words[1:] if word.endswith(".py")), words[0])
    return Path(script).name
