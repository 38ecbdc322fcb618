"""A box: processes in namespaces of their own, started and killed as one.

Each node, the control plane and each Redis server is one. Its process 1 is killed to end it, and the kernel then
kills the rest, daemons and containers included, and drops its mounts: what pulling the plug does to a machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from localcloud.machine import cgroups
from localcloud.machine.interface import MachineError
from localcloud.machine.processes import tail

NETNS = Path("/run/netns")
RUNNER = Path(__file__).with_name("runner.py")


@dataclass(frozen=True)
class Service:
    """A process that its box keeps running."""

    name: str
    argv: tuple[str, ...]
    log: str
    wait_for: str = ""
    """A file (a socket) that must be there first."""


def write_private(path: Path, text: str) -> Path:
    """The file holds the text and only root can read it, at no moment anybody else."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def runner_command(
    folder: Path, services: Sequence[Service], *, setup: Sequence[Sequence[str]] = (), restart: bool = True, fds: Sequence[int] = ()
) -> list[str]:
    """The command, for a box, that runs `setup` and keeps the services running; only file descriptors in `fds` reach them."""
    specification = {"setup": setup, "services": [asdict(service) for service in services], "restart": restart, "fds": fds}
    file = write_private(folder / "services.json", json.dumps(specification, indent=1))
    return [sys.executable, "-I", "-S", str(RUNNER), str(file)]


class Box:
    """A running box."""

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, netns: str | None = None, group: str | None = None) -> None:
        """Starts `argv` as process 1, in the network namespace and as the root of the control group if they are given."""
        self.name = name
        self.log = log
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *argv]
        if netns:
            command = ["nsenter", f"--net={NETNS / netns}", *command]
        if group:
            command = _as_root_of(group, command)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                # Not the supervisor's own: containers run as other users, in folders that containerd makes.
                umask=0o022,
            )

    @property
    def running(self) -> bool:
        """Whether process 1 is alive."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raises MachineError, with the last lines of the box's log, when the box is dead."""
        if not self.running:
            raise MachineError(f"{self.name} ended with {self._process.returncode}. Last lines of {self.log}:\n{tail(self.log)}")

    def first_process(self) -> int | None:
        """The pid, seen from here, of the box's process 1; None while or when there is none."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return next((int(pid) for pid in children.read_text().split()), None)
        except OSError:
            return None

    def kill(self, within: float = 60.0) -> None:
        """Every process of the box is gone and reaped."""
        if self.running:
            # unshare(1) reaps process 1, and that ends last of all: then the whole box is gone.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.first_process() or self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"{self.name} was killed but had not gone after {within:.0f} s") from error


def _as_root_of(group: str, command: Sequence[str]) -> list[str]:
    """Enters the group, makes it the root of a cgroup namespace, then moves into its child `init`."""
    cgroups.create_root(group)
    return cgroups.join(group, ["unshare", "--cgroup", *cgroups.join(f"{group}/{cgroups.INIT}", command)])
