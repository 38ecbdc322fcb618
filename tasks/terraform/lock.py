"""The lock on Terraform's state, and whether a dead process of this pipeline left it behind.

A killed terraform leaves its lock, and the lock names only a user and a host. So every terraform that takes the lock is recorded
in a file while it runs: machine, boot, pid namespace, pid and start tick, which together identify one process. A lock counts as
left behind only if there is such a record from this machine, its process is gone, and the lock was created by the same user and
host just after that process began. Any other lock stays.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

LOCK_REFUSED = "Error acquiring the state lock"
"""Summary of Terraform's diagnostic when the state is locked by another process."""

LOCK_KEPT = "Error releasing the state lock"
"""Summary of Terraform's diagnostic when it could not release its own lock."""

_TAKES_LOCK_WITHIN_S = 120
"""Seconds after its start within which Terraform takes the lock. Only a few calls to STS and S3 come before."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock on the state, as Terraform describes it."""

    id: str
    operation: str
    who: str
    """The holder, as user@host."""
    created: datetime

    @classmethod
    def from_text(cls, text: str) -> HeldLock | None:
        """Parse the lock from Terraform's error message; None: the message describes no lock."""
        found = dict(re.findall(r"^\s*(ID|Operation|Who|Created):[ \t]+(.+?)\s*$", text, flags=re.MULTILINE))
        try:
            return cls(found["ID"], found["Operation"], found["Who"], _parse_go_time(found["Created"]))
        except (KeyError, ValueError):
            return None

    @classmethod
    def from_stored(cls, text: str) -> HeldLock:
        """Parse the lock from the object that Terraform stores beside the state.

        Raises:
            ValueError: the text is no lock.
        """
        try:
            found = json.loads(text)
            return cls(found["ID"], found["Operation"], found["Who"], datetime.fromisoformat(found["Created"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a lock of Terraform: {text[:200]!r}") from error

    def described(self) -> str:
        """Describe holder, operation, age and id for a message."""
        age = max(0, int((datetime.now(UTC) - self.created).total_seconds()))
        operation = self.operation.removeprefix("OperationType").lower()
        return f"{self.who} ({operation}, since {age} s, lock {self.id})"


@dataclass(frozen=True, slots=True)
class TerraformProcess:
    """One terraform process, identified so that no other process is ever taken for it."""

    user: str
    host: str
    machine: str
    boot: str
    pid_namespace: str
    pid: int
    start_tick: int
    started: float
    """Start time in epoch seconds."""

    @classmethod
    def of_pid(cls, pid: int) -> TerraformProcess:
        """Describe the process `pid` of this machine, which has just been started."""
        namespace = _pid_namespace()
        return cls(getpass.getuser(), socket.gethostname(), _machine(), _boot(), namespace, pid, _start_tick(pid) or 0, time.time())

    def alive(self) -> bool | None:
        """Whether it still runs; None: that cannot be determined from this machine or container."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()):
            return None
        if self.boot != _boot():
            return False if self.machine else None
        if self.pid_namespace != _pid_namespace():
            return None
        return _start_tick(self.pid) == self.start_tick

    def left_behind(self, lock: HeldLock) -> bool:
        """Whether this process is certainly dead and left `lock` behind."""
        after_start = lock.created.timestamp() - self.started
        return self.alive() is False and lock.who == f"{self.user}@{self.host}" and -5 <= after_start <= _TAKES_LOCK_WITHIN_S


@dataclass(frozen=True, slots=True)
class ProcessRecords:
    """The processes of one stack that have not ended normally, one file each."""

    folder: Path

    def add(self, process: TerraformProcess) -> None:
        """The process is recorded, atomically."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path(process).with_suffix(".draft")
        draft.write_text(json.dumps(asdict(process)))
        draft.replace(self._path(process))

    def remove(self, process: TerraformProcess) -> None:
        """The process is not recorded any more."""
        self._path(process).unlink(missing_ok=True)

    def all(self) -> list[TerraformProcess]:
        """Every process recorded; files that are no records are skipped."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(TerraformProcess(**json.loads(path.read_text())))
            except (FileNotFoundError, ValueError, TypeError):
                continue
        return found

    def remove_dead(self) -> None:
        """Runners that are gone are not recorded any more: the lock was taken since, so they hold none."""
        for process in self.all():
            if process.alive() is False:
                self.remove(process)

    def _path(self, process: TerraformProcess) -> Path:
        return self.folder / f"{process.pid}-{process.start_tick}.json"


def _parse_go_time(text: str) -> datetime:
    """Parse Go's "2026-11-23 22:09:10.628660123 +0000 UTC"."""
    matched = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)? ([+-]\d{4})", text)
    if matched is None:
        raise ValueError(f"not a time: {text!r}")
    return datetime.strptime(f"{matched[1]} {matched[3]}", "%Y-%m-%d %H:%M:%S %z")


def _start_tick(pid: int) -> int | None:
    """Start of the process in ticks since boot; None: there is no such process, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _machine() -> str:
    return _first_line("/etc/machine-id")


def _boot() -> str:
    return _first_line("/proc/sys/kernel/random/boot_id")


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


@dataclass(slots=True)
class ProcessWatch:
    """Records one process while it may hold the lock."""

    records: ProcessRecords
    process: TerraformProcess | None = None
    ended_normally: bool = False
    """Whether it ended by itself. A killed one may have left its lock."""

    def started(self, pid: int) -> None:
        """To be called when the process has started."""
        self.process = TerraformProcess.of_pid(pid)
        self.records.add(self.process)

    def ended(self, returncode: int) -> None:
        """To be called when the process has ended, with its exit code."""
        self.ended_normally = returncode >= 0

    def close(self, unreleased: bool) -> None:
        """Remove the record of a process that ended normally, unless it reported that it could not release the lock (`unreleased`)."""
        if self.process is not None and self.ended_normally and not unreleased:
            self.records.remove(self.process)
