"""The ElastiCache API in place of moto's, composed of its parts; parameter groups, and the subnet group operations that moto lacks."""

from __future__ import annotations

import re

from moto.core.responses import ActionResult, EmptyResult
from moto.elasticache import models as elasticache_models
from moto.elasticache import urls as elasticache_urls
from moto.elasticache.models import CacheSubnetGroup

from localcloud.aws import current_machine
from localcloud.aws.elasticache.backend import DEFAULT_PARAMETERS, CacheBackend, CacheBase, Group, ParameterGroup, Shape, fault
from localcloud.aws.elasticache.groups import ReplicationGroups
from localcloud.machine.interface import MachineError

_DEFAULT = re.compile(r"default\.((?:redis|valkey)\d)")


class ParameterGroups(CacheBase):
    """Create, describe, modify, reset and delete parameter groups; a change is applied to every Redis that uses the group."""

    def create_cache_parameter_group(self) -> ActionResult:
        """Create a group without values of its own."""
        backend, name = self.backend, self._get_param("CacheParameterGroupName")
        if name in backend.parameter_groups:
            raise fault("CacheParameterGroupAlreadyExists", f"Cache parameter group {name} already exists.")
        group = ParameterGroup(name, self._get_param("CacheParameterGroupFamily"), self._get_param("Description"))
        backend.parameter_groups[name] = group
        if tags := self._get_param("Tags", []):
            backend.tagging_service.tag_resource(group.arn, tags)
        return ActionResult({"CacheParameterGroup": group.shape()})

    def describe_cache_parameter_groups(self) -> ActionResult:
        """Describe one group, or all."""
        name = self._get_param("CacheParameterGroupName")
        groups = [self._any_parameter_group()] if name else list(self.backend.parameter_groups.values())
        return ActionResult({"CacheParameterGroups": [group.shape() for group in groups]})

    def describe_cache_parameters(self) -> ActionResult:
        """Describe the group's own values, and unless Source=user ElastiCache's defaults that differ from those of Redis."""
        group, source = self._any_parameter_group(), self._get_param("Source")
        own = [_parameter(name, value, "user") for name, value in group.values.items()]
        rest = [_parameter(name, value, "system") for name, value in DEFAULT_PARAMETERS.items() if name not in group.values]
        return ActionResult({"Parameters": (own if source != "system" else []) + (rest if source != "user" else [])})

    def modify_cache_parameter_group(self) -> ActionResult:
        """Set values, which are in force in every Redis of the group before this answers."""
        group = self._parameter_group()
        changes: list[dict[str, str]] = self._get_param("ParameterNameValues", [])
        return self._set_values(group, group.values | {change["ParameterName"]: change["ParameterValue"] for change in changes})

    def reset_cache_parameter_group(self) -> ActionResult:
        """Reset the values named, or all. A running Redis keeps a value for which `DEFAULT_PARAMETERS` has no default."""
        group = self._parameter_group()
        named = {each["ParameterName"] for each in self._get_param("ParameterNameValues", []) or []}
        everything = self._get_bool_param("ResetAllParameters")
        return self._set_values(group, {} if everything else {k: v for k, v in group.values.items() if k not in named})

    def delete_cache_parameter_group(self) -> ActionResult:
        """Delete the group. Refused while a replication group uses it."""
        backend, group = self.backend, self._parameter_group()
        if self._users(group):
            raise fault("InvalidCacheParameterGroupState", f"Cache parameter group {group.name} is in use.")
        backend.tagging_service.delete_all_tags_for_resource(group.arn)
        backend.parameter_groups.pop(group.name)
        return EmptyResult()

    def _any_parameter_group(self) -> ParameterGroup:
        """Return the account's group, or the default group of a family, which cannot be changed and is in no list."""
        if default := _DEFAULT.fullmatch(self._get_param("CacheParameterGroupName")):
            return ParameterGroup(default[0], default[1], f"Default parameter group for {default[1]}")
        return self._parameter_group()

    def _parameter_group(self) -> ParameterGroup:
        name = self._get_param("CacheParameterGroupName")
        if name not in self.backend.parameter_groups:
            raise fault("CacheParameterGroupNotFound", f"CacheParameterGroup {name} not found.")
        return self.backend.parameter_groups[name]

    def _set_values(self, group: ParameterGroup, values: dict[str, str]) -> ActionResult:
        users = [user for user in self._users(group) if user.status != "create-failed"]
        if busy := [f"{user.name}, which is {user.status}" for user in users if user.status != "available"]:
            raise fault("InvalidCacheParameterGroupState", f"Cache parameter group {group.name} is used by {'; '.join(busy)}.")
        try:
            for user in users:
                current_machine.machine().configure_redis(user.name, parameters=DEFAULT_PARAMETERS | values)
        except MachineError as error:
            raise fault("InvalidParameterValue", f"Redis does not accept the parameters: {error}") from error
        group.values = values
        return ActionResult({"CacheParameterGroupName": group.name})

    def _users(self, group: ParameterGroup) -> list[Group]:
        return [g for g in self.backend.groups.values() if g.settings.get("CacheParameterGroupName") == group.name]


def _parameter(name: str, value: str, source: str) -> Shape:
    return {"ParameterName": name, "ParameterValue": value, "Source": source, "DataType": "string", "IsModifiable": True}


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
