"""The cloud's outermost process, as the host sees it: unshare(1), in the cloud's control group, holding the lock.

Killed, it takes the cloud along: its child is process 1 of the cloud's process namespace and dies with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from localcloud import paths
from localcloud.host import state
from localcloud.machine import cgroups
from localcloud.machine.box import Service, runner_command
from localcloud.machine.interface import MachineError
from localcloud.machine.processes import tail

_NAMESPACES = ("--pid", "--fork", "--mount", "--mount-proc", "--net", "--ipc", "--kill-child")
_SETUP = (["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], ["mkdir", "-p", "/run/netns"])
_LOG = state.LOGS / "supervisor.log"
_KEPT = ("PATH", "HOME", "XDG_CACHE_HOME", "LANG", "LC_ALL")
"""What the cloud inherits of the environment; nothing that could be a secret, a proxy or another cloud's address."""
_SAY_EVERY = 5.0


class Guardian:
    """A cloud being born."""

    def __init__(self, lock: int) -> None:
        """The cloud starts; folders of data, logs and control groups must be fresh. It dies when this process dies before `keep`."""
        cgroups.create(cgroups.CLOUD)
        cgroups.set_weight()
        self._socket, theirs = socket.socketpair()
        host = os.open("/proc/self/ns/net", os.O_RDONLY)
        fds = (theirs.fileno(), host)
        supervisor = (sys.executable, "-m", "localcloud", "supervise", "--birth", str(fds[0]), "--host-netns", str(host))
        inside = runner_command(paths.DATA_DIR, [Service("supervisor", supervisor, str(_LOG))], setup=_SETUP, restart=False, fds=fds)
        command = cgroups.join(cgroups.CLOUD, ["unshare", *_NAMESPACES, *inside])
        with theirs, _LOG.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                pass_fds=(lock, *fds),
                start_new_session=True,
            )
        os.close(host)

    def environment(self, report: Callable[[str], None], within: float) -> dict[str, str]:
        """What the cloud tells its clients, once it is up. MachineError with its reason, or what it did last, otherwise."""
        started, doing, buffer = time.monotonic(), "it starts", b""
        self._socket.settimeout(_SAY_EVERY)
        while time.monotonic() - started < within:
            try:
                piece = self._socket.recv(65536)
            except TimeoutError:
                report(f"{time.monotonic() - started:.0f} s: still waiting: {doing}")
                continue
            if not piece:
                raise MachineError(f"the cloud ended while it started ({doing}). Last lines of its log:\n{tail(_LOG)}")
            *lines, buffer = (buffer + piece).split(b"\n")
            for message in map(json.loads, lines):
                if "ready" in message:
                    return dict(message["ready"])
                if "failed" in message:
                    raise MachineError(f"the cloud could not start: {message['failed']}")
                doing = str(message["progress"])
                report(doing)
        raise MachineError(f"the cloud was not up after {within:.0f} s; last: {doing}. Last lines of its log:\n{tail(_LOG)}")

    def keep(self) -> None:
        """From now on the cloud lives without this process."""
        self._socket.sendall(b"keep\n")
        self._socket.close()

    def kill(self) -> None:
        """The cloud's processes are gone."""
        self._socket.close()
        cgroups.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = kept.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {**kept, "PATH": f"{path}:/usr/sbin:/sbin", "PYTHONPATH": str(paths.PACKAGE_DIR.parent), "PYTHONUNBUFFERED": "1"}
