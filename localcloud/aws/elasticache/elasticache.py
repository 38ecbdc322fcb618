"""The ElastiCache API, composed of its parts, in place of moto's."""

from __future__ import annotations

from moto.elasticache import models as elasticache_models
from moto.elasticache import urls as elasticache_urls

from localcloud.aws.elasticache.backend import CacheBackend
from localcloud.aws.elasticache.groups import ReplicationGroups
from localcloud.aws.elasticache.parameters import ParameterGroups
from localcloud.aws.elasticache.subnets import SubnetGroups


class ElastiCache(ReplicationGroups, ParameterGroups, SubnetGroups):
    """Every operation of ElastiCache that the embedded cloud has; those that no part defines are moto's own."""


def extend_moto() -> None:
    """Let `ElastiCache` answer ElastiCache's requests and `CacheBackend` keep its state."""
    elasticache_urls.url_paths["{0}/$"] = ElastiCache.dispatch
    elasticache_models.elasticache_backends.backend = CacheBackend
