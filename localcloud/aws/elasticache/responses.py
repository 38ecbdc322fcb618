"""Replication groups and their members in the structures of the API."""

from __future__ import annotations

from moto.elasticache.exceptions import CacheClusterNotFound

from localcloud.aws.elasticache.backend import CacheBackend, Group, Shape, arn

SHARD = "0001"
NODE = "0001"


def replication_group(group: Group) -> Shape:
    """Return the group as a ReplicationGroup."""
    wanted = group.settings
    return {
        "ReplicationGroupId": group.name,
        "Description": wanted.get("ReplicationGroupDescription"),
        "Status": group.status,
        "PendingModifiedValues": {},
        "MemberClusters": group.members,
        "NodeGroups": [_shard(group)],
        "SnapshottingClusterId": group.members[-1] if wanted.get("SnapshotRetentionLimit") else None,
        "AutomaticFailover": _enabled(wanted.get("AutomaticFailoverEnabled")),
        "MultiAZ": _enabled(wanted.get("MultiAZEnabled")),
        "SnapshotRetentionLimit": wanted.get("SnapshotRetentionLimit") or 0,
        "SnapshotWindow": wanted.get("SnapshotWindow") or "05:00-06:00",
        "ClusterEnabled": False,
        "ClusterMode": "disabled",
        "CacheNodeType": wanted["CacheNodeType"],
        "AuthTokenEnabled": group.auth_token is not None,
        "AuthTokenLastModifiedDate": group.auth_token_changed_at,
        "TransitEncryptionEnabled": bool(wanted.get("TransitEncryptionEnabled")),
        "TransitEncryptionMode": _transit_mode(group),
        "AtRestEncryptionEnabled": bool(wanted.get("AtRestEncryptionEnabled")),
        "KmsKeyId": wanted.get("KmsKeyId"),
        "ARN": group.arn,
        "UserGroupIds": [],
        "LogDeliveryConfigurations": [],
        "ReplicationGroupCreateTime": group.created_at,
        "DataTiering": "disabled",
        "AutoMinorVersionUpgrade": wanted.get("AutoMinorVersionUpgrade", True),
        "NetworkType": "ipv4",
        "IpDiscovery": "ipv4",
        "Engine": wanted["Engine"],
    }


def cache_cluster(group: Group, name: str) -> Shape:
    """Return the member of that name as a CacheCluster."""
    wanted, zone = group.settings, group.zones[group.members.index(name)]
    parameters = wanted.get("CacheParameterGroupName") or f"default.{wanted['Engine']}{wanted['EngineVersion'].partition('.')[0]}"
    node = {
        "CacheNodeId": NODE,
        "CacheNodeStatus": _member_status(group),
        "CacheNodeCreateTime": group.created_at,
        "ParameterGroupStatus": "in-sync",
        "CustomerAvailabilityZone": zone,
        "Endpoint": _endpoint(group),
    }
    return {
        "CacheClusterId": name,
        "CacheNodeType": wanted["CacheNodeType"],
        "Engine": wanted["Engine"],
        "EngineVersion": wanted["EngineVersion"],
        "CacheClusterStatus": _member_status(group),
        "NumCacheNodes": 1,
        "PreferredAvailabilityZone": zone,
        "CacheClusterCreateTime": group.created_at,
        "PreferredMaintenanceWindow": wanted.get("PreferredMaintenanceWindow") or "sun:05:00-sun:06:00",
        "PendingModifiedValues": {},
        "CacheSecurityGroups": [],
        "CacheParameterGroup": {"CacheParameterGroupName": parameters, "ParameterApplyStatus": "in-sync", "CacheNodeIdsToReboot": []},
        "CacheSubnetGroupName": wanted.get("CacheSubnetGroupName"),
        "CacheNodes": [node],
        "AutoMinorVersionUpgrade": wanted.get("AutoMinorVersionUpgrade", True),
        "SecurityGroups": [{"SecurityGroupId": group_id, "Status": "active"} for group_id in wanted.get("SecurityGroupIds") or []],
        "ReplicationGroupId": group.name,
        "SnapshotRetentionLimit": 0,
        "SnapshotWindow": wanted.get("SnapshotWindow") or "05:00-06:00",
        "AuthTokenEnabled": group.auth_token is not None,
        "TransitEncryptionEnabled": bool(wanted.get("TransitEncryptionEnabled")),
        "TransitEncryptionMode": _transit_mode(group),
        "AtRestEncryptionEnabled": bool(wanted.get("AtRestEncryptionEnabled")),
        "ARN": arn("cluster", name),
        "NetworkType": "ipv4",
        "IpDiscovery": "ipv4",
    }


def cache_clusters(backend: CacheBackend, name: str | None) -> list[Shape]:
    """Return the members of all groups, or the one named, as CacheClusters."""
    found = [cache_cluster(group, member) for group in list(backend.groups.values()) for member in group.members]
    if name is None:
        return found
    named = [cluster for cluster in found if cluster["CacheClusterId"] == name]
    if not named:
        raise CacheClusterNotFound(name)
    return named


def _shard(group: Group) -> Shape:
    shard: Shape = {
        "NodeGroupId": SHARD,
        "Status": group.status,
        "NodeGroupMembers": [
            {
                "CacheClusterId": name,
                "CacheNodeId": NODE,
                "ReadEndpoint": _endpoint(group),
                "PreferredAvailabilityZone": group.zones[index],
                "CurrentRole": "primary" if index == group.primary else "replica",
            }
            for index, name in enumerate(group.members)
        ],
    }
    if group.redis:
        shard["PrimaryEndpoint"] = {"Address": group.redis.primary, "Port": group.redis.port}
        shard["ReaderEndpoint"] = {"Address": group.redis.reader, "Port": group.redis.port}
    return shard


def _endpoint(group: Group) -> Shape | None:
    """Return the reader's endpoint: members have no endpoint of their own here."""
    return {"Address": group.redis.reader, "Port": group.redis.port} if group.redis else None


def _member_status(group: Group) -> str:
    return group.status if group.status in ("creating", "deleting", "create-failed") else "available"


def _transit_mode(group: Group) -> str | None:
    return (group.settings.get("TransitEncryptionMode") or "required") if group.settings.get("TransitEncryptionEnabled") else None


def _enabled(flag: bool | None) -> str:
    return "enabled" if flag else "disabled"
