"""The ElastiCache API in place of moto's, composed of its parts; and the subnet group operations that moto lacks."""

from __future__ import annotations

from moto.core.responses import ActionResult, EmptyResult
from moto.elasticache import models as elasticache_models
from moto.elasticache import urls as elasticache_urls
from moto.elasticache.models import CacheSubnetGroup

from localcloud.aws.elasticache.backend import CacheBackend, CacheBase, fault
from localcloud.aws.elasticache.groups import ReplicationGroups
from localcloud.aws.elasticache.parameters import ParameterGroups


class SubnetGroups(CacheBase):
    """Modify and delete subnet groups; moto creates and describes them."""

    def modify_cache_subnet_group(self) -> ActionResult:
        """Change the group's description and subnets; what is not given stays."""
        backend, name = self.backend, self._get_param("CacheSubnetGroupName")
        old = backend.describe_cache_subnet_groups(name)[0]
        backend.cache_subnet_groups[name] = CacheSubnetGroup(
            backend.account_id,
            backend.region_name,
            name,
            self._get_param("CacheSubnetGroupDescription") or old.cache_subnet_group_description,
            self._get_param("SubnetIds") or old.subnet_ids,
            old.tags,
        )
        return ActionResult({"CacheSubnetGroup": backend.cache_subnet_groups[name]})

    def delete_cache_subnet_group(self) -> ActionResult:
        """Delete the group. Refused while a replication group uses it."""
        backend, name = self.backend, self._get_param("CacheSubnetGroupName")
        group = backend.describe_cache_subnet_groups(name)[0]
        if any(g.settings.get("CacheSubnetGroupName") == name for g in backend.groups.values()):
            raise fault("CacheSubnetGroupInUse", f"Cache subnet group {name} is currently in use by a cache cluster.")
        backend.tagging_service.delete_all_tags_for_resource(group.arn)
        backend.cache_subnet_groups.pop(name)
        return EmptyResult()


class ElastiCache(ReplicationGroups, ParameterGroups, SubnetGroups):
    """Every operation of ElastiCache that the embedded cloud has; those that no part defines are moto's own."""


def extend_moto() -> None:
    """Let `ElastiCache` answer ElastiCache's requests and `CacheBackend` keep its state."""
    elasticache_urls.url_paths["{0}/$"] = ElastiCache.dispatch
    elasticache_models.elasticache_backends.backend = CacheBackend
