"""The books of replication groups: which exist, and which addresses they have."""

from __future__ import annotations

import threading
from pathlib import Path

from localcloud import settings
from localcloud.machine.interface import MachineError, Redis
from localcloud.machine.locks import KeyedLocks
from localcloud.machine.pki import Authority
from localcloud.machine.redis.group import Group

MAX_REPLICAS = 5
"""As ElastiCache allows for one shard."""
_FLOATING = 2


class GroupRegistry:
    """All replication groups. Calls about one group wait for each other."""

    def __init__(self, data: Path, logs: Path) -> None:
        """Below `data`: the authority of all groups' certificates, and a folder per group."""
        self._data = data
        self._logs = logs
        self._guard = threading.Lock()
        self._locks = KeyedLocks()
        self._groups: dict[str, Group] = {}
        self.authority = Authority(data / "redis-ca", "redis-ca")

    def all(self) -> list[Group]:
        """The groups there are, those coming up or going included."""
        with self._guard:
            return list(self._groups.values())

    def create(self, name: str, replicas: int, auth_token: str | None, tls: bool, parameters: dict[str, str]) -> Redis:
        """The group runs, in sync; if it cannot, nothing of it is left."""
        if not 0 <= replicas <= MAX_REPLICAS:
            raise MachineError(f"{replicas} replicas: there may be 0 to {MAX_REPLICAS}")
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
        """Every member has the parameters and, if one is given, the new token."""
        with self._locks.hold(name):
            group = self._group(name)
            group.set_parameters(parameters)
            if auth_token is not None:
                group.set_auth_token(auth_token)

    def fail_over(self, name: str) -> int:
        """A replica is primary; returns its index."""
        with self._locks.hold(name):
            return self._group(name).fail_over()

    def delete(self, name: str) -> None:
        """The group is gone, whether it was there or not."""
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
    """`count` addresses for Redis that are free; MachineError when there are not so many."""
    free = [address for address in settings.REDIS_HOSTS if address not in taken]
    if len(free) < count:
        raise MachineError(f"no room for {count} more Redis addresses, only for {len(free)}: delete a replication group")
    return free[:count]
