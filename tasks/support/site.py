"""Where a task works: a target and the name of the cluster on it. A value, so that it can go from task to task."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from blocks.cluster import api_client
from blocks.parameters import Infrastructure
from blocks.target import Target
from tasks.kubernetes.api import Api


class Site(BaseModel, frozen=True):
    """A saved target by name, and what is or will be on it."""

    target: str
    infrastructure: Infrastructure

    @property
    def block(self) -> Target:
        """The target itself, secrets included.

        Raises:
            NoSuchTarget: no such target is saved.
        """
        return load_target(self.target)

    @property
    def cluster(self) -> str:
        """Name of the cluster, for people."""
        block = self.block
        return block.cluster or (block.kubeconfig.context_name if block.kubeconfig else self.infrastructure.name)

    def api(self) -> Api:
        """The cluster's API. One connection is kept per process.

        Raises:
            NoCluster, ClusterNotActive: see blocks.cluster.
        """
        return Api(_client(self.target, self.infrastructure.name))


@lru_cache(maxsize=4)
def load_target(target: str) -> Target:
    """The saved target; asked for once per process, which is one run."""
    return Target.named(target)


@lru_cache(maxsize=4)
def _client(target: str, cluster: str) -> Any:
    return api_client(load_target(target), cluster)


def forget_connections() -> None:
    """Connections are made anew: the cluster behind a name was replaced or taken down."""
    _client.cache_clear()
