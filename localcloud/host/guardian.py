"""The cloud's outermost process, as the host sees it: unshare(1), in the cloud's control group, holding the lock.

When it is killed, the cloud ends: its child is process 1 of the cloud's process namespace and dies with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

from localcloud import paths
from localcloud.files import last_lines
from localcloud.host import state
from localcloud.machine import cgroups
from localcloud.machine.box import Service, runner_command
from localcloud.machine.interface import MachineError
from localcloud.progress import Report

KEEP = b"keep\n"
"""The message by which `up` tells a started cloud to go on without it."""
_NAMESPACES = ("--pid", "--fork", "--mount", "--mount-proc", "--net", "--ipc", "--kill-child")
_SETUP = (["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], ["mkdir", "-p", "/run/netns"])
_LOG = state.LOGS / "supervisor.log"
_KEPT = ("PATH", "HOME", "XDG_CACHE_HOME", "LANG", "LC_ALL")
"""Environment variables that the cloud inherits. None of them can be a secret, a proxy or another cloud's address."""
_REPORT_EVERY = 5.0


class Guardian:
    """A cloud that is being started, and this process's end of its startup channel (supervisor.StartupChannel)."""

    def __init__(self, lock: int) -> None:
        """Start the cloud; its folders and control groups must be new. It dies if this process dies before `keep`."""
        cgroups.create(cgroups.CLOUD)
        cgroups.set_weight()
        self._socket, theirs = socket.socketpair()
        host = os.open("/proc/self/ns/net", os.O_RDONLY)
        fds = (theirs.fileno(), host)
        supervisor = (sys.executable, "-m", "localcloud", "supervise", "--startup-fd", str(fds[0]), "--host-netns", str(host))
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

    def wait_until_ready(self, report: Report, within: float) -> dict[str, str]:
        """Wait until the cloud is up, and return what its clients need.

        MachineError after `within` seconds, or when the cloud fails or ends, with its reason or its last step.
        """
        started, doing, buffer = time.monotonic(), "it starts", b""
        self._socket.settimeout(_REPORT_EVERY)
        while time.monotonic() - started < within:
            try:
                piece = self._socket.recv(65536)
            except TimeoutError:
                report(f"{time.monotonic() - started:.0f} s: still waiting: {doing}")
                continue
            if not piece:
                raise MachineError(f"the cloud ended while it started ({doing}). Last lines of its log:\n{last_lines(_LOG)}")
            *lines, buffer = (buffer + piece).split(b"\n")
            for message in map(json.loads, lines):
                if "ready" in message:
                    return dict(message["ready"])
                if "failed" in message:
                    raise MachineError(f"the cloud could not start: {message['failed']}")
                doing = str(message["progress"])
                report(doing)
        raise MachineError(f"the cloud was not up after {within:.0f} s; last: {doing}. Last lines of its log:\n{last_lines(_LOG)}")

    def keep(self) -> None:
        """Let the cloud live on without this process."""
        self._socket.sendall(KEEP)
        self._socket.close()

    def kill(self) -> None:
        """Kill the cloud's processes."""
        self._socket.close()
        cgroups.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = kept.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {**kept, "PATH": f"{path}:/usr/sbin:/sbin", "PYTHONPATH": str(paths.PACKAGE_DIR.parent), "PYTHONUNBUFFERED": "1"}
