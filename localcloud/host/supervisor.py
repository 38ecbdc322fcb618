"""The process that is the cloud: the machine side and the AWS side in one, inside the cloud's namespaces.

It inherits a socket to `up`, the startup channel: it sends lines of progress, then what clients need to know. Until `up`
has answered "keep", the cloud is not wanted yet: when `up` dies, the socket closes, and the cloud ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import threading
import time
from pathlib import Path

from localcloud import settings
from localcloud.build.artifacts import Artifacts, artifacts
from localcloud.host import state
from localcloud.host.guardian import KEEP
from localcloud.machine import image_registry, network
from localcloud.machine.interface import MachineError
from localcloud.machine.local import LocalMachine, State
from localcloud.machine.processes import wait_until
from localcloud.paths import DATA_DIR

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_AWS_WITHIN = 60.0
_RECONCILE_EVERY = 3.0
_LOG_LIMIT = 16 * 2**20


class StartupChannel:
    """The cloud's end of the socket to `up`. Messages are lines of JSON."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._socket.set_inheritable(False)

    def report(self, text: str) -> None:
        """Send a line of progress, which `up` prints."""
        self._send({"progress": text})

    def report_ready(self, environment: dict[str, str]) -> None:
        """Send what clients need to know; `up` stores it."""
        self._send({"ready": environment})

    def report_failure(self, reason: str) -> None:
        """Send an error, with which `up` ends."""
        self._send({"failed": reason})

    def wait_for_keep(self) -> bool:
        """Return True when `up` answers "keep", False when it is gone."""
        with self._socket:
            return self._socket.recv(len(KEEP)) == KEEP

    def _send(self, message: dict[str, object]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")


class Supervisor:
    """The cloud's parts in the order in which they come up."""

    def __init__(self, built: Artifacts) -> None:
        self._built = built
        self._aws: threading.Thread | None = None
        self.machine = LocalMachine(DATA_DIR, link_components(built.kubernetes), built.images, write_state)

    def start(self, channel: StartupChannel, host_netns: int) -> dict[str, str]:
        """Start network, registry and AWS endpoint; return what clients need to know, when all of them answer."""
        network.build_root()
        network.build_uplink(host_netns)
        channel.report("the image registry starts")
        image_registry.start(DATA_DIR / "registry", state.LOGS)
        channel.report("the AWS endpoint starts")
        environment = self._start_aws()
        self._start_pod_identity()
        write_state(self.machine.state())
        return environment

    def _start_aws(self) -> dict[str, str]:
        # Moto takes a second or two to import, and nothing before this needs it.
        from localcloud.aws import server
        from localcloud.aws.auth import first_user

        first = first_user.create()
        serve = threading.Thread(target=server.serve, args=(self.machine, settings.AWS_HOST, settings.AWS_PORT), name="aws", daemon=True)
        serve.start()
        self._aws = serve

        def missing() -> str | None:
            if not serve.is_alive():
                raise MachineError("the AWS server ended at its start; its error is in the supervisor's log")
            return state.endpoint_problem()

        wait_until("the AWS endpoint answers", missing, within=_AWS_WITHIN)
        return {
            "endpoint_url": settings.AWS_ENDPOINT_URL,
            "region": settings.REGION,
            "access_key_id": first.access_key_id,
            "secret_access_key": first.secret_access_key,
            "role_arn": first.role_arn,
            "redis_ca_pem": self.machine.redis_ca_pem,
            "registry": settings.REGISTRY,
            "base_image": str(self._built.base_image),
            "engine": "cpu",  # there is no chip behind the devices that its nodes offer
        }

    def _start_pod_identity(self) -> None:
        """Start the webhook that points pods to their credentials, and the agent that issues them."""
        from localcloud.aws.eks import pod_identity_listeners  # imports the AWS side, hence not at the top

        pod_identity_listeners.Agent(settings.POD_IDENTITY_HOST, settings.POD_IDENTITY_PORT).start()
        pod_identity_listeners.Webhook(settings.AWS_HOST, settings.WEBHOOK_PORT, self.machine.webhook).start()

    def run_until_aws_ends(self) -> None:
        """Return when the AWS server has ended, which it should not. Until then retry what is pending, and keep logs small."""
        while self._aws is not None and self._aws.is_alive():
            self._aws.join(_RECONCILE_EVERY)
            self.machine.reconcile()
            rotate_logs(state.LOGS)


def write_state(value: State) -> None:
    """Write the state that `status` reads."""
    state.write(state.STATE, value)


def link_components(binary: Path) -> Path:
    """Make a folder with every Kubernetes component under its name: one binary that acts by the name it is called by.

    It is in the data folder itself, the one place that a node sees wherever the cache may be.
    """
    folder = DATA_DIR / "bin"
    folder.mkdir()
    own = folder / "kubernetes"
    try:
        own.hardlink_to(binary)
    except OSError:  # the cache is on another file system
        shutil.copy2(binary, own)
    for name in COMPONENTS:
        (folder / name).symlink_to(own.name)
    return folder


def rotate_logs(folder: Path, limit: int = _LOG_LIMIT) -> None:
    """Copy every log of more than `limit` bytes to NAME.1 and empty it. Its writers append, so they need not reopen it.

    A log that cannot be copied (it has just gone with its node, or the disk is full) is left as it is.
    """
    for log in folder.glob("*.log"):
        with contextlib.suppress(OSError):
            if log.stat().st_size > limit:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)


def main(arguments: list[str]) -> int:
    """Run the cloud until it is killed. Only `up` calls this, inside new namespaces."""
    parser = argparse.ArgumentParser(prog="supervisor")
    parser.add_argument("--startup-fd", type=int, required=True, help="file descriptor of the socket to `up`")
    parser.add_argument("--host-netns", type=int, required=True, help="file descriptor of the host's network namespace")
    given = parser.parse_args(arguments)
    os.umask(0o077)
    channel = StartupChannel(given.startup_fd)
    started = time.monotonic()
    try:
        supervisor = Supervisor(artifacts())
        environment = supervisor.start(channel, given.host_netns)
    except Exception as error:
        channel.report_failure(f"{type(error).__name__}: {error}")
        raise
    os.close(given.host_netns)
    print(f"up after {time.monotonic() - started:.1f} s", flush=True)
    channel.report_ready(environment)
    if not channel.wait_for_keep():
        print("`up` ended before it asked to keep the cloud", flush=True)
        return 1
    supervisor.run_until_aws_ends()
    return 1
