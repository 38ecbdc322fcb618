"""A machine of paper: it agrees to everything and makes nothing.

For trying Terraform, and the AWS side alone, on a computer where no cluster may run. It records what was asked of it, so
that tests can see; `failures` makes a call fail with the text given.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Any

from localcloud import settings
from localcloud.machine.interface import ControlPlane, MachineError, NodeSpec, PodToken, Redis

_CA = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU6IHBhcGVyIG1hY2hpbmU=\n-----END CERTIFICATE-----\n"


@dataclass
class FakeMachine:
    """Remembers clusters, nodes and Redis groups by name."""

    delay: float = 0.0
    """Seconds that a call takes."""
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """Method name → text of the MachineError that it raises."""
    nodes: dict[str, NodeSpec] = field(default_factory=dict)
    planes: dict[str, str] = field(default_factory=dict)
    redis: dict[str, int] = field(default_factory=dict)
    """Name → index of the primary."""
    pod_tokens: dict[str, PodToken] = field(default_factory=dict, repr=False)
    """The tokens that its API server would call valid."""

    def __post_init__(self) -> None:
        self._addresses = count()
        self._lock = Lock()

    def _asked(self, method: str, *arguments: Any) -> None:
        time.sleep(self.delay)
        with self._lock:
            self.calls.append((method, *arguments))
        if method in self.failures:
            raise MachineError(self.failures[method])

    def create_control_plane(self, name: str, version: str) -> ControlPlane:
        """Remembered."""
        self._asked("create_control_plane", name, version)
        self.planes[name] = version
        return ControlPlane(settings.API_SERVER_URL, _CA)

    def delete_control_plane(self, name: str) -> None:
        """Forgotten."""
        self._asked("delete_control_plane", name)
        self.planes.pop(name, None)

    def join_node(self, node: NodeSpec) -> str:
        """Remembered; the next address of NODE_HOSTS."""
        self._asked("join_node", node)
        with self._lock:
            self.nodes[node.instance_id] = node
            return settings.NODE_HOSTS[next(self._addresses) % len(settings.NODE_HOSTS)]

    def remove_node(self, instance_id: str) -> None:
        """Forgotten."""
        self._asked("remove_node", instance_id)
        self.nodes.pop(instance_id, None)

    def install_addon(self, cluster: str, name: str) -> None:
        """Nothing but the record."""
        self._asked("install_addon", cluster, name)

    def remove_addon(self, cluster: str, name: str) -> None:
        """Nothing but the record."""
        self._asked("remove_addon", cluster, name)

    def bind_access_policy(self, cluster: str, group: str, role: str, namespace: str | None) -> None:
        """Nothing but the record."""
        self._asked("bind_access_policy", cluster, group, role, namespace)

    def review_pod_token(self, cluster: str, token: str) -> PodToken | None:
        """The pod of one of `pod_tokens`."""
        self._asked("review_pod_token", cluster)
        return self.pod_tokens.get(token)

    def create_redis(self, name: str, *, replicas: int, auth_token: str | None, tls: bool, parameters: dict[str, str]) -> Redis:
        """Remembered."""
        self._asked("create_redis", name, replicas, auth_token, tls, parameters)
        self.redis[name] = 0
        return Redis(settings.REDIS_HOSTS[0], settings.REDIS_HOSTS[1], settings.REDIS_PORT)

    def configure_redis(self, name: str, *, auth_token: str | None = None, parameters: dict[str, str] | None = None) -> None:
        """Nothing but the record."""
        self._asked("configure_redis", name, auth_token, parameters)

    def fail_over_redis(self, name: str) -> int:
        """The other one is primary."""
        self._asked("fail_over_redis", name)
        self.redis[name] = 1 - self.redis[name]
        return self.redis[name]

    def delete_redis(self, name: str) -> None:
        """Forgotten."""
        self._asked("delete_redis", name)
        self.redis.pop(name, None)

    def registry(self) -> str:
        """The address that the real machine has."""
        return settings.REGISTRY

    def inventory(self) -> dict[str, list[str]]:
        """What is remembered."""
        return {"nodes": list(self.nodes), "redis": list(self.redis), "control-planes": list(self.planes)}
