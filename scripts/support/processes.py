"""Processes that are recorded, found again and ended, without ever signalling another process.

A pid alone is not an identity: the kernel reuses it for another process. A record also holds the process's
start time and the machine's boot id, and only a process that matches all three is signalled.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from localcloud.files import write_private
from scripts.support.paths import ROOT


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one boot of this machine."""

    pid: int
    started: str
    """Boot id and start time in clock ticks since that boot."""

    @classmethod
    def find(cls, pid: int) -> Process | None:
        """Return the live process with this pid, or None. A zombie is not alive, unless only its first thread has ended."""
        try:
            # The command name in parentheses may hold anything, so count from its end.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        threads = int(fields[17])
        return None if fields[0] in "ZX" and threads <= 1 else cls(pid, f"{boot}:{fields[19]}")

    @property
    def alive(self) -> bool:
        """Whether this process still runs; another process with the same pid does not count."""
        return Process.find(self.pid) == self

    def catches(self, number: signal.Signals) -> bool:
        """Whether the process handles the signal. The first process of a pid namespace ignores what it does not handle, but SIGKILL."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return False
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (number - 1) & 1) and self.alive

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended_within(self, seconds: float) -> bool:
        """Wait for the process to end; False when it still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def children(process: Process) -> list[Process]:
    """Return the live children of a process."""
    try:
        pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        return []
    found = [Process.find(int(pid)) for pid in pids]
    return [child for child in found if child] if process.alive else []


def kill_with_children(process: Process) -> bool:
    """Kill the process and its children; of an `unshare` that ends its whole namespace. False when one outlives 20 s.

    The child goes first: it is the namespace's first process, which the kernel ends only after all others in it.
    """
    for each in (*children(process), process):
        each.signal(signal.SIGKILL)
        if not each.ended_within(20):
            return False
    return True


def write_record(path: Path, process: Process, **more: object) -> None:
    """Write a record of the process to `path` (mode 0600), atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path.with_name(path.name + ".new"), json.dumps({**more, **asdict(process)})).replace(path)


def read_record(path: Path) -> tuple[Process, dict[str, object]] | None:
    """Return what `write_record` wrote; None when there is no readable record."""
    try:
        raw = json.loads(path.read_text())
        return Process(raw.pop("pid"), raw.pop("started")), raw
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class Busy(RuntimeError):
    """Another process holds the lock."""

    def __init__(self, holder: Process | None) -> None:
        self.holder = holder
        name = f"process {holder.pid}" if holder else "another process"
        super().__init__(f"a demo or test run of Leeward is already under way ({name}); one machine has room for one")


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file for this process alone; the kernel releases it when the process ends in any way.

    Raises:
        Busy: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Children do not inherit the descriptor (PEP 446), so no child that outlives this process holds the lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = read_record(path)
            raise Busy(found[0] if found else None) from None
        me = Process.find(os.getpid())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(me) if me else {}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def output_of(
    command: Sequence[str], failed: Callable[[str], Exception], *, stdin: str = "", env: dict[str, str] | None = None, timeout_s: float = 60
) -> str:
    """Run a program in the project's folder and return its output; raise `failed(reason)` if it fails or exceeds the timeout."""
    try:
        done = subprocess.run(command, input=stdin, env=env, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise failed(f"no end within {timeout_s:.0f} s") from None
    if done.returncode:
        raise failed(f"exit code {done.returncode}: {done.stderr.strip()[-800:]}")
    return done.stdout


def contained(argv: list[str]) -> list[str]:
    """Return the command line that runs `argv` in a pid and mount namespace which ends with the process that starts it.

    SIGKILL of the starting process, of `unshare` or of the command itself leaves no process and no mount. Start it
    from a thread that lives as long as the command: the kernel sends the parent-death signal when that thread ends.
    """
    return ["setpriv", "--pdeathsig", "KILL", "--", *in_pid_namespace(argv, mounts=True)]


@cache
def can_contain() -> bool:
    """Whether this machine allows the namespaces of `contained`: root may, with util-linux, and not in every container."""
    try:
        return subprocess.run(contained(["true"]), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def in_pid_namespace(argv: list[str], *, mounts: bool = False) -> list[str]:
    """Return the command line that runs `argv` as first process of a new pid namespace; killing `unshare` kills all in it."""
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *(["--mount"] if mounts else []), "--", *argv]
