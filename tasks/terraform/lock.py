"""Who holds the state's lock, and whether that is a dead run of ours.

A terraform that is killed leaves its lock behind, and the lock itself names only a user and a host. So
every run that takes the lock is written down beside its target while it lives: machine, boot, pid namespace,
pid and the process's start tick, which together no other process ever has. A lock is ours and dead only
when such a record is of this machine, its process is gone, and the lock was made by the same user and host in
the moment after that process began. Whatever cannot be told so is somebody else's, and stays.
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
"""Summary of Terraform's diagnostic when someone else holds the lock."""

LOCK_KEPT = "Error releasing the state lock"
"""The same, when it could not give its own lock back."""

_TAKES_LOCK_WITHIN_S = 120
"""Terraform takes the lock right after its start; before it come only a few calls to STS and S3."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """The lock as Terraform describes it when it cannot have it."""

    id: str
    operation: str
    who: str
    """user@host"""
    created: datetime

    @classmethod
    def from_text(cls, text: str) -> HeldLock | None:
        """The lock described in Terraform's message, or None when it describes none."""
        found = dict(re.findall(r"^\s*(ID|Operation|Who|Created):[ \t]+(.+?)\s*$", text, flags=re.MULTILINE))
        try:
            return cls(found["ID"], found["Operation"], found["Who"], _instant(found["Created"]))
        except (KeyError, ValueError):
            return None

    @classmethod
    def from_stored(cls, text: str) -> HeldLock:
        """The lock as Terraform stores it beside the state.

        Raises:
            ValueError: it is not one.
        """
        try:
            found = json.loads(text)
            return cls(found["ID"], found["Operation"], found["Who"], datetime.fromisoformat(found["Created"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a lock of Terraform: {text[:200]!r}") from error

    def described(self) -> str:
        """Holder, operation, age and id, for a person."""
        age = max(0, int((datetime.now(UTC) - self.created).total_seconds()))
        operation = self.operation.removeprefix("OperationType").lower()
        return f"{self.who} ({operation}, since {age} s, lock {self.id})"


@dataclass(frozen=True, slots=True)
class TerraformProcess:
    """One terraform process, told apart from every other one there ever is."""

    user: str
    host: str
    machine: str
    boot: str
    pid_namespace: str
    pid: int
    start_tick: int
    started: float
    """Epoch seconds."""

    @classmethod
    def of_pid(cls, pid: int) -> TerraformProcess:
        """The process `pid` of this machine, which has just been started."""
        namespace = _pid_namespace()
        return cls(getpass.getuser(), socket.gethostname(), _machine(), _boot(), namespace, pid, _start_tick(pid) or 0, time.time())

    def alive(self) -> bool | None:
        """Whether it still runs; None when that cannot be told from here."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()):
            return None
        if self.boot != _boot():
            return False if self.machine else None
        if self.pid_namespace != _pid_namespace():
            return None
        return _start_tick(self.pid) == self.start_tick

    def left_behind(self, lock: HeldLock) -> bool:
        """Whether this process is dead for certain and `lock` is what it left behind."""
        after_start = lock.created.timestamp() - self.started
        return self.alive() is False and lock.who == f"{self.user}@{self.host}" and -5 <= after_start <= _TAKES_LOCK_WITHIN_S


@dataclass(frozen=True, slots=True)
class ProcessRecords:
    """The processs of one target that have not ended in order, one file each."""

    folder: Path

    def add(self, process: TerraformProcess) -> None:
        """The process is written down, whole or not at all."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path(process).with_suffix(".draft")
        draft.write_text(json.dumps(asdict(process)))
        draft.replace(self._path(process))

    def remove(self, process: TerraformProcess) -> None:
        """The process is no longer written down."""
        self._path(process).unlink(missing_ok=True)

    def all(self) -> list[TerraformProcess]:
        """Every process written down; a file that is not a record is left out."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(TerraformProcess(**json.loads(path.read_text())))
            except (FileNotFoundError, ValueError, TypeError):
                continue
        return found

    def remove_dead(self) -> None:
        """Runners that are gone are no longer written down: the lock has been had since."""
        for process in self.all():
            if process.alive() is False:
                self.remove(process)

    def _path(self, process: TerraformProcess) -> Path:
        return self.folder / f"{process.pid}-{process.start_tick}.json"


def _instant(text: str) -> datetime:
    """Go's "2026-11-23 22:09:10.628660123 +0000 UTC" as a datetime."""
    matched = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)? ([+-]\d{4})", text)
    if matched is None:
        raise ValueError(f"not a time: {text!r}")
    return datetime.strptime(f"{matched[1]} {matched[3]}", "%Y-%m-%d %H:%M:%S %z")


def _start_tick(pid: int) -> int | None:
    """When the process began, in ticks since boot; None when there is none, or it is only waiting to be reaped."""
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
    """Writes one process down while it may hold the lock."""

    records: ProcessRecords
    process: TerraformProcess | None = None
    in_order: bool = False
    """Whether it has ended by itself; one that was killed may have left its lock."""

    def started(self, pid: int) -> None:
        """The process has just begun."""
        self.process = TerraformProcess.of_pid(pid)
        self.records.add(self.process)

    def ended(self, returncode: int) -> None:
        """The process is gone, with this exit code."""
        self.in_order = returncode >= 0

    def close(self, unreleased: bool) -> None:
        """What has ended in order is no longer written down, unless it said that it could not give the lock back."""
        if self.process is not None and self.in_order and not unreleased:
            self.records.remove(self.process)
