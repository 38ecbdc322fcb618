"""A box: processes in namespaces of their own, started and killed as one.

Each node, the control plane and each Redis server is a box. Its process 1 is killed to end it, and the kernel then
kills the rest, daemons and containers included, and drops its mounts: as when a machine loses its power.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from localcloud.files import last_lines, write_private
from localcloud.machine import cgroups
from localcloud.machine.interface import MachineError
from localcloud.machine.processes import wait_until

NETNS = Path("/run/netns")
RUNNER = Path(__file__).with_name("runner.py")


@dataclass(frozen=True)
class Service:
    """A process that its box keeps running."""

    name: str
    argv: tuple[str, ...]
    log: str
    wait_for: str = ""
    """A file (a socket) that must exist before the service is started."""


def runner_command(
    folder: Path, services: Sequence[Service], *, setup: Sequence[Sequence[str]] = (), restart: bool = True, fds: Sequence[int] = ()
) -> list[str]:
    """Return the command of a box that runs `setup`, then keeps the services running. They inherit only the file descriptors in `fds`."""
    specification = {"setup": setup, "services": [asdict(service) for service in services], "restart": restart, "fds": fds}
    file = write_private(folder / "services.json", json.dumps(specification, indent=1))
    return [sys.executable, "-I", "-S", str(RUNNER), str(file)]


class Box:
    """A box and its process 1."""

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, netns: str | None = None, group: str | None = None) -> None:
        """Start `argv` as process 1, in the network namespace `netns` and as the root of the control group `group` if given."""
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
        """Raise MachineError, with the last lines of the box's log, when the box is dead."""
        if not self.running:
            raise MachineError(f"{self.name} ended with {self._process.returncode}. Last lines of {self.log}:\n{last_lines(self.log)}")

    def wait_until(self, what: str, missing: Callable[[], str | None], *, within: float, every: float = 0.1) -> None:
        """Wait as `processes.wait_until` does, but raise MachineError at once when the box is dead."""

        def missing_while_alive() -> str | None:
            self.check()
            return missing()

        wait_until(what, missing_while_alive, within=within, every=every)

    def first_process(self) -> int | None:
        """Return the pid, as seen from here, of the box's process 1; None when there is none, or none yet."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return next((int(pid) for pid in children.read_text().split()), None)
        except OSError:
            return None

    def kill(self, within: float = 60.0) -> None:
        """Kill every process of the box, and return when all are gone and reaped. MachineError after `within` seconds."""
        if self.running:
            # unshare(1) reaps process 1, and process 1 ends last: when unshare has ended, the whole box is gone.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.first_process() or self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"{self.name} was killed but had not gone after {within:.0f} s") from error


def _as_root_of(group: str, command: Sequence[str]) -> list[str]:
    """Return the command that enters the group, makes it the root of a cgroup namespace, then moves into its child `init`."""
    cgroups.create_root(group)
    return cgroups.join(group, ["unshare", "--cgroup", *cgroups.join(f"{group}/{cgroups.INIT}", command)])
