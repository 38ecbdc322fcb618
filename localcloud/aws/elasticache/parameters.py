"""ElastiCache parameter groups; a change of their values is applied to every Redis that uses them."""

from __future__ import annotations

import re
from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from localcloud.aws import current_machine
from localcloud.aws.elasticache.backend import DEFAULT_PARAMETERS, CacheBase, Group, ParameterGroup, Shape, fault
from localcloud.machine.interface import MachineError

_DEFAULT = re.compile(r"default\.((?:redis|valkey)\d)")


class ParameterGroups(CacheBase):
    """Create, describe, modify, reset and delete parameter groups."""

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
        if _users(self, group):
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
        users = [user for user in _users(self, group) if user.status != "create-failed"]
        if busy := [f"{user.name}, which is {user.status}" for user in users if user.status != "available"]:
            raise fault("InvalidCacheParameterGroupState", f"Cache parameter group {group.name} is used by {'; '.join(busy)}.")
        try:
            for user in users:
                current_machine.machine().configure_redis(user.name, parameters=DEFAULT_PARAMETERS | values)
        except MachineError as error:
            raise fault("InvalidParameterValue", f"Redis does not accept the parameters: {error}") from error
        group.values = values
        return ActionResult({"CacheParameterGroupName": group.name})


def _users(response: Any, group: ParameterGroup) -> list[Group]:
    return [g for g in response.backend.groups.values() if g.settings.get("CacheParameterGroupName") == group.name]


def _parameter(name: str, value: str, source: str) -> Shape:
    return {"ParameterName": name, "ParameterValue": value, "Source": source, "DataType": "string", "IsModifiable": True}
