"""`LocalMachine` carries out on this machine what the embedded AWS asks for. It is called from many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from localcloud import settings
from localcloud.machine import pki
from localcloud.machine.cluster import addons, controlplane, pod_tokens
from localcloud.machine.cluster.access import Access, Binding
from localcloud.machine.cluster.controlplane import Cluster
from localcloud.machine.interface import ControlPlane, Machine, MachineError, NodeSpec, PodToken, Redis
from localcloud.machine.nodes.registry import NodeRegistry
from localcloud.machine.redis.registry import GroupRegistry

State = dict[str, Any]


class LocalMachine(Machine):
    """Everything real of one cloud. It runs in the cloud's namespaces and writes below one folder."""

    def __init__(self, data: Path, binaries: Path, images: tuple[Path, ...], on_change: Callable[[State], None]) -> None:
        """`data` is the cloud's folder, `binaries` that of the Kubernetes components, `images` are what every node imports."""
        self._folder = data / "cluster"
        self._binaries = binaries
        self._on_change = on_change
        self._one_cluster = threading.Lock()
        self._cluster: Cluster | None = None
        self._access: Access | None = None
        self._addons: set[str] = set()
        self._nodes = NodeRegistry(data / "nodes", images)
        self._redis = GroupRegistry(data, data / "log")
        self.redis_ca_pem = self._redis.authority.pem
        """Certificate of the authority that issues every replication group's certificates."""
        webhooks = pki.Authority(data / "webhook-pki", "ca")
        self._webhook_ca_pem = webhooks.pem
        self.webhook = webhooks.server("webhook", "pod-identity-webhook", [settings.AWS_HOST])
        """Certificate of the admission webhook at AWS_HOST, which API servers accept."""

    def registry(self) -> str:
        """Return the registry's address. The supervisor starts the registry first of all, so it answers already."""
        return settings.REGISTRY

    def create_control_plane(self, name: str, version: str) -> ControlPlane:
        """Create the control plane, in about 5 s. Of several callers one creates it, the others wait for it."""
        controlplane.check_version(version)
        with self._one_cluster, self._changing():
            if self._cluster is None:
                self._cluster = controlplane.create(name, self._folder, self._binaries, self._webhook_ca_pem)
                self._access = Access(self._cluster.api)
            return self._named(name).control_plane

    def delete_control_plane(self, name: str) -> None:
        """Delete the control plane, in about a second. MachineError while there are nodes."""
        with self._one_cluster, self._changing():
            if self._cluster is None or self._cluster.name != name:
                return
            if nodes := self._nodes.all():
                raise MachineError(f"cluster {name} still has nodes: {', '.join(node.spec.name for node in nodes)}")
            self._cluster.stop()
            self._cluster = self._access = None
            self._addons.clear()

    def join_node(self, node: NodeSpec) -> str:
        """Add the node, in about 5 s; several at the same time take somewhat longer."""
        with self._changing():
            return self._nodes.join(node, self._named(None))

    def remove_node(self, instance_id: str) -> None:
        """Kill the node without notice to its pods. A caller that wants them to end in order drains the node first."""
        with self._changing():
            self._nodes.remove(instance_id)

    def install_addon(self, cluster: str, name: str) -> None:
        """Install the add-on. CoreDNS takes a few seconds, once there is a node that can run it."""
        addons.install(self._named(cluster).api, name)
        self._addons.add(name)

    def remove_addon(self, cluster: str, name: str) -> None:
        """Delete the add-on's objects. Its pods end after that."""
        if self._cluster is not None and self._cluster.name == cluster:
            addons.remove(self._cluster.api, name)
        self._addons.discard(name)

    def bind_access_policy(self, cluster: str, group: str, role: str, namespace: str | None) -> None:
        """Bind the group to the role. For a namespace that does not exist yet, `reconcile` does it some seconds after it was created."""
        self._named(cluster)
        if self._access is not None:
            self._access.bind(Binding(group, role, namespace))

    def review_pod_token(self, cluster: str, token: str) -> PodToken | None:
        """Ask the API server which pod the token belongs to, in some milliseconds."""
        return pod_tokens.review(self._named(cluster).api, token)

    def create_redis(self, name: str, *, replicas: int, auth_token: str | None, tls: bool, parameters: dict[str, str]) -> Redis:
        """Create the replication group, in a second or two."""
        with self._changing():
            return self._redis.create(name, replicas, auth_token, tls, parameters)

    def configure_redis(self, name: str, *, auth_token: str | None = None, parameters: dict[str, str] | None = None) -> None:
        """Change token or parameters. Open connections stay, as with ElastiCache."""
        self._redis.configure(name, auth_token, parameters or {})

    def fail_over_redis(self, name: str) -> int:
        """Promote a replica. Connections to the old primary are cut; what it had not replicated is lost."""
        with self._changing():
            return self._redis.fail_over(name)

    def delete_redis(self, name: str) -> None:
        """Delete the replication group and its data: there are no snapshots."""
        with self._changing():
            self._redis.delete(name)

    def reconcile(self) -> None:
        """Do what earlier calls could not do yet. Call it every few seconds."""
        access = self._access
        if access is not None:
            with suppress(MachineError):  # the API server may be busy; the next call tries again
                access.reconcile()

    def inventory(self) -> dict[str, list[str]]:
        """List by kind what AWS calls created and did not delete yet."""
        found = {
            "control-planes": [self._cluster.name] if self._cluster else [],
            "nodes": [node.spec.name for node in self._nodes.all()],
            "add-ons": sorted(self._addons),
            "redis": [member.netns for group in self._redis.all() for member in group.members],
        }
        return {kind: names for kind, names in found.items() if names}

    def state(self) -> State:
        """Describe what exists, for `status`."""
        nodes = [(node.spec, node.address) for node in self._nodes.all()]
        return {
            "cluster": {"name": self._cluster.name, "endpoint": settings.API_SERVER_URL} if self._cluster else None,
            "nodes": [{"name": s.name, "instance": s.instance_id, "type": s.instance_type, "address": a} for s, a in nodes],
            "redis": [{"name": g.name, "primary": g.endpoints.primary, "members": len(g.members)} for g in self._redis.all()],
        }

    def _named(self, name: str | None) -> Cluster:
        """Return the cluster if it has this name, or any name when `name` is None; else MachineError."""
        if self._cluster is None:
            raise MachineError(f"there is no cluster {name or 'to join'}")
        if name not in (None, self._cluster.name):
            raise MachineError(f"there is room for one cluster, and {self._cluster.name} is it, not {name}")
        return self._cluster

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Publish the machine's state after a change."""
        try:
            yield
        finally:
            # If the state file cannot be written, on a full disk, what was done is done all the same.
            with suppress(OSError):
                self._on_change(self.state())
