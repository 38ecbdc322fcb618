"""The ElastiCache API: its parts put together, in moto's place."""

from __future__ import annotations

from moto.elasticache import models as elasticache_models
from moto.elasticache import urls as elasticache_urls

from localcloud.aws.elasticache.backend import CacheBackend
from localcloud.aws.elasticache.groups import ReplicationGroups
from localcloud.aws.elasticache.parameters import ParameterGroups
from localcloud.aws.elasticache.subnets import SubnetGroups


class ElastiCache(ReplicationGroups, ParameterGroups, SubnetGroups):
    """Every operation of ElastiCache that the embedded cloud has; moto's own where none of the parts has it."""


def install() -> None:
    """ElastiCache requests and books are these."""
    elasticache_urls.url_paths["{0}/$"] = ElastiCache.dispatch
    elasticache_models.elasticache_backends.backend = CacheBackend
