"""Processes that are recorded, found again and ended without ever hitting a stranger.

A pid alone is not an identity: the kernel gives it to somebody else later. A record holds the process's
start time and the machine's boot as well, and only a process that matches all three is ever signalled.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one boot of this machine."""

    pid: int
    started: str
    """Boot id and start time in clock ticks since that boot."""

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The living process with this pid, or None. A zombie is not alive, unless only its first thread has ended."""
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
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def catches(self, number: signal.Signals) -> bool:
        """Whether it does something of its own about the signal. The first process of a namespace is deaf to any other but SIGKILL."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return False
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (number - 1) & 1) and self.alive

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process is gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def gone_within(self, seconds: float) -> bool:
        """Waits for the end; False when it still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def children(process: Process) -> list[Process]:
    """The living children of a process."""
    try:
        pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        return []
    found = [Process.of(int(pid)) for pid in pids]
    return [child for child in found if child] if process.alive else []


def kill_whole(process: Process) -> bool:
    """The process and, when it is an `unshare`, all of its namespace are gone; False when not within 20 s.

    The first process inside goes first: the kernel lets it go last of all inside, and `unshare` waits for it.
    """
    for each in (*children(process), process):
        each.signal(signal.SIGKILL)
        if not each.gone_within(20):
            return False
    return True


def write_record(path: Path, process: Process, **more: object) -> None:
    """The record stands in `path` (0600), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({**more, **asdict(process)}, file)
    draft.replace(path)


def read_record(path: Path) -> tuple[Process, dict[str, object]] | None:
    """What `write_record` wrote; None when there is nothing readable."""
    try:
        raw = json.loads(path.read_text())
        return Process(raw.pop("pid"), raw.pop("started")), raw
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class Busy(RuntimeError):
    """Somebody else holds the lock."""

    def __init__(self, holder: Process | None) -> None:
        self.holder = holder
        who = f"process {holder.pid}" if holder else "another process"
        super().__init__(f"a demo or test run of Leeward is already under way ({who}); one machine has room for one")


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Inside, this process alone holds the lock; the kernel lets it go with the process, however that dies.

    Raises:
        Busy: somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not inherited by children (PEP 446), so nothing left running can keep the lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = read_record(path)
            raise Busy(found[0] if found else None) from None
        me = Process.of(os.getpid())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(me) if me else {}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def contained(argv: list[str], *, mounts: bool = True) -> list[str]:
    """The command line that runs `argv` in a pid (and mount) namespace which dies with whoever starts it.

    SIGKILL of the starter, of `unshare` or of the command itself leaves no process and no mount. Start it
    from a thread that lives as long as the command: the death signal follows the starting thread.
    """
    return ["setpriv", "--pdeathsig", "KILL", "--", *namespaces(argv, mounts=mounts)]


@cache
def can_contain() -> bool:
    """Whether this machine lets us make the namespaces of `contained`: root may, with util-linux, and not in every container."""
    try:
        return subprocess.run(contained(["true"]), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def namespaces(argv: list[str], *, mounts: bool = False) -> list[str]:
    """`argv` as first process of a pid namespace of its own; killing `unshare` kills all of it."""
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *(["--mount"] if mounts else []), "--", *argv]
