"""A machine in memory: every call succeeds and makes nothing.

For trying Terraform, and the AWS side alone, on a computer where no cluster may run. It records its calls for tests, and
`failures` makes a call fail with a given text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Any

from localcloud import settings
from localcloud.machine.interface import ControlPlane, MachineError, NodeSpec, PodToken, Redis

_CA = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU6IGZha2UgbWFjaGluZQ==\n-----END CERTIFICATE-----\n"


@dataclass
class FakeMachine:
    """Clusters, nodes and Redis groups in memory, by name."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    """Name and arguments of every call so far."""
    failures: dict[str, str] = field(default_factory=dict)
    """Method name → text of the MachineError that it raises."""
    nodes: dict[str, NodeSpec] = field(default_factory=dict)
    planes: dict[str, str] = field(default_factory=dict)
    redis: dict[str, int] = field(default_factory=dict)
    """Name → index of the primary."""
    pod_tokens: dict[str, PodToken] = field(default_factory=dict, repr=False)
    """The tokens that the cluster's API server accepts, and the pod of each."""

    def __post_init__(self) -> None:
        self._addresses = count()
        self._lock = Lock()

    def _record(self, method: str, *arguments: Any) -> None:
        with self._lock:
            self.calls.append((method, *arguments))
        if method in self.failures:
            raise MachineError(self.failures[method])

    def create_control_plane(self, name: str, version: str) -> ControlPlane:
        """Record the cluster and its version."""
        self._record("create_control_plane", name, version)
        self.planes[name] = version
        return ControlPlane(settings.API_SERVER_URL, _CA)

    def delete_control_plane(self, name: str) -> None:
        """Remove the cluster from the record."""
        self._record("delete_control_plane", name)
        self.planes.pop(name, None)

    def join_node(self, node: NodeSpec) -> str:
        """Record the node, and return the next address of NODE_HOSTS."""
        self._record("join_node", node)
        with self._lock:
            self.nodes[node.instance_id] = node
            return settings.NODE_HOSTS[next(self._addresses) % len(settings.NODE_HOSTS)]

    def remove_node(self, instance_id: str) -> None:
        """Remove the node from the record."""
        self._record("remove_node", instance_id)
        self.nodes.pop(instance_id, None)

    def install_addon(self, cluster: str, name: str) -> None:
        """Record the call and do nothing."""
        self._record("install_addon", cluster, name)

    def remove_addon(self, cluster: str, name: str) -> None:
        """Record the call and do nothing."""
        self._record("remove_addon", cluster, name)

    def bind_access_policy(self, cluster: str, group: str, role: str, namespace: str | None) -> None:
        """Record the call and do nothing."""
        self._record("bind_access_policy", cluster, group, role, namespace)

    def review_pod_token(self, cluster: str, token: str) -> PodToken | None:
        """Look the token up in `pod_tokens`."""
        self._record("review_pod_token", cluster)
        return self.pod_tokens.get(token)

    def create_redis(self, name: str, *, replicas: int, auth_token: str | None, tls: bool, parameters: dict[str, str]) -> Redis:
        """Record the group; its first member is the primary."""
        self._record("create_redis", name, replicas, auth_token, tls, parameters)
        self.redis[name] = 0
        return Redis(settings.REDIS_HOSTS[0], settings.REDIS_HOSTS[1], settings.REDIS_PORT)

    def configure_redis(self, name: str, *, auth_token: str | None = None, parameters: dict[str, str] | None = None) -> None:
        """Record the call and do nothing."""
        self._record("configure_redis", name, auth_token, parameters)

    def fail_over_redis(self, name: str) -> int:
        """Make the other of two members the primary, and return its index."""
        self._record("fail_over_redis", name)
        self.redis[name] = 1 - self.redis[name]
        return self.redis[name]

    def delete_redis(self, name: str) -> None:
        """Remove the group from the record."""
        self._record("delete_redis", name)
        self.redis.pop(name, None)

    def registry(self) -> str:
        """Return the address that the real machine's registry has."""
        return settings.REGISTRY

    def inventory(self) -> dict[str, list[str]]:
        """Return what has been recorded and not removed, by kind."""
        return {"nodes": list(self.nodes), "redis": list(self.redis), "control-planes": list(self.planes)}
