"""ElastiCache replication groups: the machine makes each a real Redis primary with replicas."""

from __future__ import annotations

import logging

from moto.core.responses import ActionResult, PaginatedResult
from moto.core.utils import utcnow
from moto.elasticache.exceptions import ReplicationGroupAlreadyExists, ReplicationGroupNotFound

from localcloud import settings
from localcloud.aws import background, current_machine, moto_lock
from localcloud.aws.elasticache import responses
from localcloud.aws.elasticache.backend import CacheBackend, CacheBase, Group, Shape, fault
from localcloud.machine.interface import MachineError

log = logging.getLogger(__name__)

_MODIFIABLE = (
    "ReplicationGroupDescription",
    "AutomaticFailoverEnabled",
    "MultiAZEnabled",
    "SnapshotRetentionLimit",
    "SnapshotWindow",
    "SecurityGroupIds",
    "CacheParameterGroupName",
    "PreferredMaintenanceWindow",
    "AutoMinorVersionUpgrade",
    "CacheNodeType",
    "TransitEncryptionMode",
)


class ReplicationGroups(CacheBase):
    """Create, describe, modify, fail over and delete; describe members."""

    def create_replication_group(self) -> ActionResult:
        """Create a group: creating, then available once primary and replicas are in sync, or create-failed."""
        wanted: Shape = dict(self._get_params())
        name = wanted["ReplicationGroupId"]
        if name in self.backend.groups:
            raise ReplicationGroupAlreadyExists(name)
        group = _new_group(self.backend, wanted)
        self.backend.groups[name] = group
        if tags := wanted.get("Tags"):
            self.backend.tagging_service.tag_resource(group.arn, tags)
        backend = self.backend
        background.start(f"create replication group {name}", lambda: _create_redis(backend, group))
        return ActionResult({"ReplicationGroup": responses.replication_group(group)})

    def describe_replication_groups(self) -> ActionResult:
        """Describe one group, or all."""
        name = self._get_param("ReplicationGroupId")
        groups = [self._group()] if name else list(self.backend.groups.values())
        return PaginatedResult({"ReplicationGroups": [responses.replication_group(group) for group in groups]})

    def describe_cache_clusters(self) -> ActionResult:
        """Describe the members of replication groups. There are no other cache clusters."""
        if self._get_bool_param("ShowCacheClustersNotInReplicationGroups"):
            return PaginatedResult({"CacheClusters": []})
        return PaginatedResult({"CacheClusters": responses.cache_clusters(self.backend, self._get_param("CacheClusterId"))})

    def create_cache_cluster(self) -> ActionResult:
        """Refuse the call: moto would keep a cache cluster that has no Redis."""
        raise NotImplementedError("CreateCacheCluster: use a replication group")

    def delete_cache_cluster(self) -> ActionResult:
        """Refuse the call: the members of a group are fixed."""
        raise NotImplementedError("DeleteCacheCluster: the number of a replication group's members is fixed")

    def create_user(self) -> ActionResult:
        """Refuse the call: moto would keep a user that Redis does not know."""
        raise NotImplementedError("CreateUser: use an AUTH token")

    def modify_replication_group(self) -> ActionResult:
        """Change the group. AUTH token and parameters are in force in Redis before this answers; nothing else has an effect there."""
        group, wanted = self._group(), dict(self._get_params())
        current, version = group.settings["EngineVersion"], wanted.get("EngineVersion")
        if version and _full_version(version) != current:
            raise fault("InvalidParameterCombination", f"The engine version {current} cannot be changed here.")
        _check_available(group)
        _configure_redis(self.backend, group, wanted)
        group.settings.update({key: wanted[key] for key in _MODIFIABLE if key in wanted})
        return ActionResult({"ReplicationGroup": responses.replication_group(group)})

    def test_failover(self) -> ActionResult:
        """Fail over: modifying, then available once a replica is the primary."""
        group = self._group()
        if self._get_param("NodeGroupId") != responses.SHARD:
            raise fault("NodeGroupNotFoundFault", f"Node group {self._get_param('NodeGroupId')} not found.")
        if not group.settings.get("AutomaticFailoverEnabled") or len(group.zones) < 2:
            raise fault("TestFailoverNotAvailableFault", "Automatic failover is not enabled or there is no replica.")
        _check_available(group)
        group.status = "modifying"
        background.start(f"fail over {group.name}", lambda: _fail_over(group))
        return ActionResult({"ReplicationGroup": responses.replication_group(group)})

    def delete_replication_group(self) -> ActionResult:
        """Delete the group: deleting, until every member is gone."""
        group, backend = self._group(), self.backend
        if group.status == "deleting":
            raise fault("InvalidReplicationGroupState", f"Replication group {group.name} is being deleted.")
        group.status = "deleting"
        background.start(f"delete replication group {group.name}", lambda: _delete_redis(backend, group))
        return ActionResult({"ReplicationGroup": responses.replication_group(group)})

    def _group(self) -> Group:
        name = self._get_param("ReplicationGroupId")
        if name not in self.backend.groups:
            raise ReplicationGroupNotFound(name)
        return self.backend.groups[name]


def _new_group(backend: CacheBackend, wanted: Shape) -> Group:
    members = wanted.get("NumCacheClusters") or (wanted.get("ReplicasPerNodeGroup") or 0) + 1
    if (wanted.get("NumNodeGroups") or 1) > 1 or wanted.get("ClusterMode") == "enabled":
        raise fault("InvalidParameterCombination", "Cluster mode is not supported by the embedded cloud: use one shard.")
    _check_auth_token(wanted)
    parameters = wanted.get("CacheParameterGroupName")
    if parameters and not parameters.startswith("default.") and parameters not in backend.parameter_groups:
        raise fault("CacheParameterGroupNotFound", f"CacheParameterGroup {parameters} not found.")
    if wanted.get("AutomaticFailoverEnabled") and members < 2:
        raise fault("InvalidParameterCombination", "Automatic failover needs at least one replica.")
    token = wanted.pop("AuthToken", None)
    wanted.setdefault("Engine", "redis")
    wanted.setdefault("CacheNodeType", "cache.t4g.small")
    wanted["EngineVersion"] = _full_version(wanted.get("EngineVersion") or ("8.0" if wanted["Engine"] == "valkey" else "7.1"))
    changed_at = utcnow() if token else None
    return Group(wanted["ReplicationGroupId"], wanted, _zones(backend, wanted, members), token, auth_token_changed_at=changed_at)


def _check_auth_token(wanted: Shape) -> None:
    token = wanted.get("AuthToken")
    if token is None:
        return
    if not 16 <= len(token) <= 128:
        raise fault("InvalidParameterValue", "The AUTH token must be 16 to 128 characters long.")
    if not wanted.get("TransitEncryptionEnabled"):
        raise fault("InvalidParameterCombination", "An AUTH token needs transit encryption.")


def _full_version(version: str) -> str:
    return version + ".0" * (2 - version.count("."))


def _zones(backend: CacheBackend, wanted: Shape, members: int) -> tuple[str, ...]:
    zones = list(wanted.get("PreferredCacheClusterAZs") or [])
    if not zones and (name := wanted.get("CacheSubnetGroupName")):
        subnets = backend.describe_cache_subnet_groups(name)[0].subnets
        zones = sorted({subnet["subnet_availability_zone"] for subnet in subnets if "subnet_availability_zone" in subnet})
    zones = zones or list(settings.AVAILABILITY_ZONES)
    return tuple(zones[index % len(zones)] for index in range(members))


def _check_available(group: Group) -> None:
    """Refuse to go on unless the group is available, which it is not while background work changes it."""
    if group.status != "available":
        raise fault("InvalidReplicationGroupState", f"Replication group {group.name} is {group.status}.")


def _create_redis(backend: CacheBackend, group: Group) -> None:
    with group.lock:
        try:
            group.redis = current_machine.machine().create_redis(
                group.name,
                replicas=len(group.zones) - 1,
                auth_token=group.auth_token,
                tls=bool(group.settings.get("TransitEncryptionEnabled")),
                parameters=backend.parameters(group.settings.get("CacheParameterGroupName")),
            )
        except MachineError as error:
            log.error("replication group %s: %s", group.name, error)
        if group.status == "creating":
            group.status = "available" if group.redis else "create-failed"


def _configure_redis(backend: CacheBackend, group: Group, wanted: Shape) -> None:
    token, parameter_group = wanted.get("AuthToken"), wanted.get("CacheParameterGroupName")
    if token is None and parameter_group is None:
        return
    _check_auth_token({"TransitEncryptionEnabled": group.settings.get("TransitEncryptionEnabled"), **wanted})
    parameters = backend.parameters(parameter_group) if parameter_group else None
    try:
        current_machine.machine().configure_redis(group.name, auth_token=token, parameters=parameters)
    except MachineError as error:
        raise fault("InvalidReplicationGroupState", f"Redis could not be changed: {error}") from error
    if token is not None:
        group.auth_token, group.auth_token_changed_at = token, utcnow()


def _fail_over(group: Group) -> None:
    with group.lock:
        try:
            group.primary = current_machine.machine().fail_over_redis(group.name)
        except MachineError as error:
            log.error("failover of %s: %s", group.name, error)
        finally:
            group.status = "available" if group.status == "modifying" else group.status


def _delete_redis(backend: CacheBackend, group: Group) -> None:
    with group.lock:
        try:
            current_machine.machine().delete_redis(group.name)
        except MachineError as error:
            log.error("replication group %s could not be deleted, delete it again: %s", group.name, error)
            group.status = "available" if group.redis else "create-failed"
            return
        with moto_lock.MOTO_LOCK:
            backend.tagging_service.delete_all_tags_for_resource(group.arn)
            backend.groups.pop(group.name, None)
