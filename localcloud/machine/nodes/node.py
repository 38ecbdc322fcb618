"""A node: the box with containerd, kubelet and kube-proxy that an EC2 instance becomes.

The box has its own process, mount, network and cgroup namespace. Killing it does what terminating an instance does:
containers, their mounts and their groups are gone, whatever state they were in.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from localcloud import settings
from localcloud.files import last_lines
from localcloud.machine import cgroups, filesystem, network
from localcloud.machine.box import Box, Service, runner_command
from localcloud.machine.cluster.controlplane import Cluster
from localcloud.machine.host_proxy import proxy_command
from localcloud.machine.interface import MachineError, NodeSpec
from localcloud.machine.nodes import containerd, kubelet

READY_WITHIN = 300.0
"""Seconds until a node must be Ready: under 8 on an idle machine, minutes for four at once on one busy processor."""


class Node:
    """One node. Its addresses follow from its index."""

    def __init__(self, spec: NodeSpec, index: int, cluster: Cluster, folder: Path) -> None:
        """Describe the node; `join` starts it."""
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
        """Path of the Node object in the Kubernetes API."""
        return f"/api/v1/nodes/{self.spec.name}"

    def join(self, images: Sequence[Path]) -> None:
        """Start the node, import the images, and return when it is Ready. If that fails, it is removed again."""
        try:
            box = self._start()
            self._import(box, images)
            box.wait_until(f"node {self.spec.name} is Ready", self._not_ready, within=READY_WITHIN, every=0.2)
        except Exception:
            with suppress(MachineError):  # what went wrong first is what matters
                self.remove()
            raise

    def remove(self) -> None:
        """Remove box, addresses, data and the node's objects in the cluster."""
        if self._box is not None:
            self._box.kill()
        network.unroute_pods(self._pods)
        network.detach(self._netns, self.address)
        if left := cgroups.remove(self._group):
            raise MachineError(f"control groups of node {self.spec.name} are still in use: {left}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self._forget()

    def _start(self) -> Box:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        network.attach(self._netns, self.address, forward=True)
        network.route_pods(self._pods, self.address)
        setup = [*filesystem.commands(self.folder), *filesystem.chip_files(self.folder, self.spec.neuron_chips, self.spec.neuron_cores)]
        argv = runner_command(self.folder, self._services(), setup=setup)
        self._box = Box(f"node {self.spec.name}", argv, log=self._log, netns=self._netns, group=self._group)
        return self._box

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

    def _import(self, box: Box, images: Sequence[Path]) -> None:
        def missing() -> str | None:
            pid = box.first_process()
            if pid and containerd.socket_seen_from_outside(pid).exists():
                return None
            return f"no socket yet; containerd's last lines:\n{last_lines(Path(self._log_of('containerd')), 4)}"

        # A service that ends is started again. So the box itself ends only if its set-up fails, and its own log has the reason.
        box.wait_until(f"containerd of node {self.spec.name} answers", missing, within=120.0)
        containerd.import_images(containerd.socket_seen_from_outside(box.first_process() or 0), images)

    def _not_ready(self) -> str | None:
        found = self.cluster.api.get(self.path)
        if found is None:
            return f"the node is not registered; kubelet's last lines:\n{last_lines(Path(self._log_of('kubelet')), 4)}"
        for condition in found["status"].get("conditions", []):
            if condition["type"] == "Ready":
                return None if condition["status"] == "True" else f"Ready={condition['status']}: {condition.get('message', '')}"
        return "the node has no conditions yet"

    def _forget(self) -> None:
        """Delete the Node and the pods that were on it, as the cloud controller does for a terminated instance."""
        self.cluster.api.delete(self.path)
        pods = self.cluster.api.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.spec.name}") or {"items": []}
        for pod in pods["items"]:
            meta = pod["metadata"]
            self.cluster.api.delete(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", grace_seconds=0)
