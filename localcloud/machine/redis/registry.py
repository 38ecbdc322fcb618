"""The registry of replication groups: which exist, and which addresses they have."""

from __future__ import annotations

import threading
from pathlib import Path

from localcloud import settings
from localcloud.machine.interface import MachineError, Redis
from localcloud.machine.locks import KeyedLocks
from localcloud.machine.pki import Authority
from localcloud.machine.redis.group import Group

MAX_REPLICAS = 5
"""ElastiCache's own limit for one shard."""
_FLOATING = 2
"""Addresses of a group beside those of its members: the primary's and the reader's."""


class GroupRegistry:
    """All replication groups. Calls about one group wait for each other."""

    def __init__(self, data: Path, logs: Path) -> None:
        """`data` will contain the authority of all groups' certificates, and a folder per group."""
        self._data = data
        self._logs = logs
        self._guard = threading.Lock()
        self._locks = KeyedLocks()
        self._groups: dict[str, Group] = {}
        self.authority = Authority(data / "redis-ca", "redis-ca")

    def all(self) -> list[Group]:
        """Return all groups, including those that are being created or deleted."""
        with self._guard:
            return list(self._groups.values())

    def create(self, name: str, replicas: int, auth_token: str | None, tls: bool, parameters: dict[str, str]) -> Redis:
        """Create a group; return its addresses when it runs and is in sync. If that fails, nothing of it is left."""
        if not 0 <= replicas <= MAX_REPLICAS:
            raise MachineError(f"{replicas} replicas: between 0 and {MAX_REPLICAS} are possible")
        if auth_token and not tls:
            raise MachineError("an AUTH token needs encryption in transit")
        with self._locks.hold(name):
            group = self._groups.get(name)
            if group is None:
                group = self._register(name, replicas, auth_token, tls)
                try:
                    group.start(parameters)
                except Exception:
                    self._drop(name)
                    raise
            return group.endpoints

    def configure(self, name: str, auth_token: str | None, parameters: dict[str, str]) -> None:
        """Give every member the parameters and, if one is given, the new token."""
        with self._locks.hold(name):
            group = self._group(name)
            group.set_parameters(parameters)
            if auth_token is not None:
                group.set_auth_token(auth_token)

    def fail_over(self, name: str) -> int:
        """Promote a replica; return its index."""
        with self._locks.hold(name):
            return self._group(name).fail_over()

    def delete(self, name: str) -> None:
        """Delete the group, if there is one of this name."""
        with self._locks.hold(name):
            if name in self._groups:
                self._drop(name)

    def _register(self, name: str, replicas: int, auth_token: str | None, tls: bool) -> Group:
        with self._guard:
            taken = {address for group in self._groups.values() for address in group.addresses}
            addresses = allocate(taken, _FLOATING + 1 + replicas)
            authority = self.authority if tls else None
            group = Group(name, self._data / "redis" / name, self._logs, addresses, authority, auth_token)
            self._groups[name] = group
            return group

    def _group(self, name: str) -> Group:
        if name not in self._groups:
            raise MachineError(f"there is no replication group {name}")
        return self._groups[name]

    def _drop(self, name: str) -> None:
        self._groups[name].stop()
        with self._guard:
            del self._groups[name]


def allocate(taken: set[str], count: int) -> list[str]:
    """Return the first `count` free addresses for Redis; MachineError when there are fewer."""
    free = [address for address in settings.REDIS_HOSTS if address not in taken]
    if len(free) < count:
        raise MachineError(f"no room for {count} more Redis addresses, only for {len(free)}: delete a replication group")
    return free[:count]
