"""Nodes: an EC2 instance becomes a box with containerd, kubelet and kube-proxy, and goes with everything in it.

The box has its own process, mount, network and cgroup namespace, so killing it is what terminating an instance is:
containers, their mounts and their groups go with it, whatever state they are in.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from localcloud import settings
from localcloud.machine import cgroups, filesystem, network
from localcloud.machine.box import Box, Service, runner_command
from localcloud.machine.cluster.controlplane import Cluster
from localcloud.machine.host_proxy import proxy_command
from localcloud.machine.interface import MachineError, NodeSpec
from localcloud.machine.nodes import containerd, kubelet
from localcloud.machine.processes import tail, wait_until

READY_WITHIN = 300.0
"""Seconds. It takes under 8 on an idle machine; four at once on one busy processor take minutes."""


class Node:
    """One node; its index gives its addresses."""

    def __init__(self, spec: NodeSpec, index: int, cluster: Cluster, folder: Path) -> None:
        """Nothing is started yet."""
        self.spec = spec
        self.index = index
        self.cluster = cluster
        self.folder = folder
        self.address = settings.NODE_HOSTS[index]
        self._pods = network.pod_network(index)
        self._netns = f"node-{spec.instance_id}"
        self._group = f"{cgroups.TREE}/{self._netns}"
        self._log = cluster.logs / f"{self._netns}.log"
        self._box: Box | None = None

    @property
    def path(self) -> str:
        """Of the Node object in the API."""
        return f"/api/v1/nodes/{self.spec.name}"

    def join(self, images: Sequence[Path]) -> None:
        """The node is Ready and holds the images. It is removed again when that fails."""
        try:
            self._start()
            self._import(images)
            wait_until(f"node {self.spec.name} is Ready", self._not_ready, within=READY_WITHIN, every=0.2)
        except Exception:
            with suppress(MachineError):  # what went wrong first is what matters
                self.remove()
            raise

    def remove(self) -> None:
        """Box, addresses, data and the node's objects in the cluster are gone."""
        if self._box is not None:
            self._box.kill()
        network.unroute_pods(self._pods)
        network.detach(self._netns, self.address)
        if left := cgroups.remove(self._group):
            raise MachineError(f"control groups of node {self.spec.name} are still in use: {left}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self._forget()

    def _start(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        network.attach(self._netns, self.address, forward=True)
        network.route_pods(self._pods, self.address)
        setup = [*filesystem.commands(self.folder), *filesystem.chip_files(self.folder, self.spec.neuron_chips, self.spec.neuron_cores)]
        argv = runner_command(self.folder, self._services(), setup=setup)
        self._box = Box(f"node {self.spec.name}", argv, log=self._log, netns=self._netns, group=self._group)

    def _services(self) -> list[Service]:
        config = containerd.write_config(self.folder, self._pods)
        proxy = proxy_command(self.cluster.binaries, self.cluster.proxy_kubeconfig(), self.spec.name)
        node = kubelet.command(self.cluster, self.spec, self.folder, self.address)
        return [
            Service("containerd", ("containerd", "--config", str(config)), self._log_of("containerd")),
            Service("kube-proxy", proxy, self._log_of("kube-proxy")),
            Service("kubelet", node, self._log_of("kubelet"), wait_for=containerd.SOCKET),
        ]

    def _log_of(self, service: str) -> str:
        return str(self.cluster.logs / f"{self._netns}-{service}.log")

    def _import(self, images: Sequence[Path]) -> None:
        assert self._box is not None
        box = self._box

        def missing() -> str | None:
            box.check()  # its services are started again whenever they end: it dies of its set-up, and its own log says why
            pid = box.first_process()
            if pid and containerd.socket_seen_from_outside(pid).exists():
                return None
            return f"no socket yet; containerd's last lines:\n{tail(Path(self._log_of('containerd')), 4)}"

        wait_until(f"containerd of node {self.spec.name} answers", missing, within=120.0)
        containerd.import_images(containerd.socket_seen_from_outside(box.first_process() or 0), images)

    def _not_ready(self) -> str | None:
        assert self._box is not None
        self._box.check()
        found = self.cluster.api.get(self.path)
        if found is None:
            return f"the node is not registered; kubelet's last lines:\n{tail(Path(self._log_of('kubelet')), 4)}"
        for condition in found["status"].get("conditions", []):
            if condition["type"] == "Ready":
                return None if condition["status"] == "True" else f"Ready={condition['status']}: {condition.get('message', '')}"
        return "the node has no conditions yet"

    def _forget(self) -> None:
        """What the cloud controller does for a terminated instance: its Node goes, and the pods that were on it."""
        self.cluster.api.delete(self.path)
        pods = self.cluster.api.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.spec.name}") or {"items": []}
        for pod in pods["items"]:
            meta = pod["metadata"]
            self.cluster.api.delete(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", grace_seconds=0)
