"""The site of a task: a target and the stack on it. A plain value, so that it can be passed from task to task."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from blocks.cluster import api_client
from blocks.parameters import Infrastructure
from blocks.target import Target
from drills.kubernetes.api import Api


class Site(BaseModel, frozen=True):
    """The name of a saved target, and the infrastructure that is or will be on it."""

    target: str
    infrastructure: Infrastructure

    @property
    def block(self) -> Target:
        """The target block itself, with its secrets.

        Raises:
            NoSuchTarget: no such target is saved.
        """
        return load_target(self.target)

    @property
    def cluster(self) -> str:
        """Name of the cluster, for messages."""
        block = self.block
        return block.cluster or (block.kubeconfig.context_name if block.kubeconfig else self.infrastructure.name)

    def api(self) -> Api:
        """The cluster's API. The client is kept for the whole process.

        Raises:
            NoCluster, ClusterNotActive: see blocks.cluster.
        """
        return Api(_client(self.target, self.infrastructure.name))


@lru_cache(maxsize=4)
def load_target(target: str) -> Target:
    """The saved target, loaded once per process, which is one run."""
    return Target.named(target)


@lru_cache(maxsize=4)
def _client(target: str, cluster: str) -> Any:
    return api_client(load_target(target), cluster)


def forget_connections() -> None:
    """Drop the cached API clients, because the cluster behind a name was replaced or destroyed."""
    _client.cache_clear()
