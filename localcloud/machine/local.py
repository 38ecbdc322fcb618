"""`LocalMachine`: what the embedded AWS asks for, done on this machine. Its calls come from many threads."""

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
    """Everything real of one cloud. It lives in the cloud's namespaces and writes below one folder."""

    def __init__(self, data: Path, binaries: Path, images: tuple[Path, ...], on_change: Callable[[State], None]) -> None:
        """`data` is the cloud's folder, `binaries` holds the Kubernetes components, `images` what every node imports."""
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
        """The authority of every replication group's certificates."""
        webhooks = pki.Authority(data / "webhook-pki", "ca")
        self._webhook_ca_pem = webhooks.pem
        self.webhook = webhooks.server("webhook", "pod-identity-webhook", [settings.AWS_HOST])
        """The certificate that API servers take at AWS_HOST from an admission webhook."""

    def registry(self) -> str:
        """The supervisor started it before anything could ask."""
        return settings.REGISTRY

    def create_control_plane(self, name: str, version: str) -> ControlPlane:
        """Takes about 5 s; of several callers one makes it, the others wait for it."""
        controlplane.check_version(version)
        with self._one_cluster, self._changing():
            if self._cluster is None:
                self._cluster = controlplane.create(name, self._folder, self._binaries, self._webhook_ca_pem)
                self._access = Access(self._cluster.api)
            return self._named(name).control_plane

    def delete_control_plane(self, name: str) -> None:
        """Takes a second; MachineError while there are nodes."""
        with self._one_cluster, self._changing():
            if self._cluster is None or self._cluster.name != name:
                return
            if nodes := self._nodes.all():
                raise MachineError(f"cluster {name} still has nodes: {', '.join(node.spec.name for node in nodes)}")
            self._cluster.stop()
            self._cluster = self._access = None
            self._addons.clear()

    def join_node(self, node: NodeSpec) -> str:
        """Takes about 5 s, several at once somewhat more."""
        with self._changing():
            return self._nodes.join(node, self._named(None))

    def remove_node(self, instance_id: str) -> None:
        """The plug is pulled: whoever wants its pods to end in peace drains it first."""
        with self._changing():
            self._nodes.remove(instance_id)

    def install_addon(self, cluster: str, name: str) -> None:
        """CoreDNS takes a few seconds, once a node can run it."""
        addons.install(self._named(cluster).api, name)
        self._addons.add(name)

    def remove_addon(self, cluster: str, name: str) -> None:
        """Returns when its objects are deleted; its pods end after that."""
        if self._cluster is not None and self._cluster.name == cluster:
            addons.remove(self._cluster.api, name)
        self._addons.discard(name)

    def bind_access_policy(self, cluster: str, group: str, role: str, namespace: str | None) -> None:
        """A binding for a namespace that comes later holds some seconds after the namespace is there."""
        self._named(cluster)
        if self._access is not None:
            self._access.bind(Binding(group, role, namespace))

    def review_pod_token(self, cluster: str, token: str) -> PodToken | None:
        """Takes some milliseconds."""
        return pod_tokens.review(self._named(cluster).api, token)

    def create_redis(self, name: str, *, replicas: int, auth_token: str | None, tls: bool, parameters: dict[str, str]) -> Redis:
        """Takes a second or two."""
        with self._changing():
            return self._redis.create(name, replicas, auth_token, tls, parameters)

    def configure_redis(self, name: str, *, auth_token: str | None = None, parameters: dict[str, str] | None = None) -> None:
        """Open connections stay, as with ElastiCache."""
        self._redis.configure(name, auth_token, parameters or {})

    def fail_over_redis(self, name: str) -> int:
        """Connections to the old primary are cut; what it had not replicated is lost."""
        with self._changing():
            return self._redis.fail_over(name)

    def delete_redis(self, name: str) -> None:
        """Its data is gone: there are no snapshots."""
        with self._changing():
            self._redis.delete(name)

    def reconcile(self) -> None:
        """What waited for something is done now. Call it every few seconds."""
        access = self._access
        if access is not None:
            with suppress(MachineError):  # the API server may be busy; there is a next time
                access.reconcile()

    def inventory(self) -> dict[str, list[str]]:
        """What is left of what AWS calls caused, by kind; empty once all was deleted again."""
        found = {
            "control-planes": [self._cluster.name] if self._cluster else [],
            "nodes": [node.spec.name for node in self._nodes.all()],
            "add-ons": sorted(self._addons),
            "redis": [member.netns for group in self._redis.all() for member in group.members],
        }
        return {kind: names for kind, names in found.items() if names}

    def state(self) -> State:
        """What exists, for people."""
        nodes = [(node.spec, node.address) for node in self._nodes.all()]
        return {
            "cluster": {"name": self._cluster.name, "endpoint": settings.API_SERVER_URL} if self._cluster else None,
            "nodes": [{"name": s.name, "instance": s.instance_id, "type": s.instance_type, "address": a} for s, a in nodes],
            "redis": [{"name": g.name, "primary": g.endpoints.primary, "members": len(g.members)} for g in self._redis.all()],
        }

    def _named(self, name: str | None) -> Cluster:
        """The cluster, whatever it is called when `name` is None."""
        if self._cluster is None:
            raise MachineError(f"there is no cluster {name or 'to join'}")
        if name not in (None, self._cluster.name):
            raise MachineError(f"there is room for one cluster, and {self._cluster.name} is it, not {name}")
        return self._cluster

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Afterwards whoever wants to know hears how things are."""
        try:
            yield
        finally:
            # A file for people that cannot be written, on a full disk, undoes nothing of what was done.
            with suppress(OSError):
                self._on_change(self.state())
