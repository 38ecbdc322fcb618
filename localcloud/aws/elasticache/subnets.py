"""ElastiCache subnet groups: what moto lacks of them."""

from __future__ import annotations

from moto.core.responses import ActionResult, EmptyResult
from moto.elasticache.models import CacheSubnetGroup

from localcloud.aws.elasticache.backend import CacheBase, fault


class SubnetGroups(CacheBase):
    """Modify and delete; moto creates and describes."""

    def modify_cache_subnet_group(self) -> ActionResult:
        """The group has the description and subnets given."""
        books, name = self.books, self._get_param("CacheSubnetGroupName")
        old = books.describe_cache_subnet_groups(name)[0]
        books.cache_subnet_groups[name] = CacheSubnetGroup(
            books.account_id,
            books.region_name,
            name,
            self._get_param("CacheSubnetGroupDescription") or old.cache_subnet_group_description,
            self._get_param("SubnetIds") or old.subnet_ids,
            old.tags,
        )
        return ActionResult({"CacheSubnetGroup": books.cache_subnet_groups[name]})

    def delete_cache_subnet_group(self) -> ActionResult:
        """The group is gone; refused while a replication group is in it."""
        books, name = self.books, self._get_param("CacheSubnetGroupName")
        group = books.describe_cache_subnet_groups(name)[0]
        if any(g.settings.get("CacheSubnetGroupName") == name for g in books.groups.values()):
            raise fault("CacheSubnetGroupInUse", f"Cache subnet group {name} is currently in use by a cache cluster.")
        books.tagging_service.delete_all_tags_for_resource(group.arn)
        books.cache_subnet_groups.pop(name)
        return EmptyResult()
