"""ElastiCache: replication groups, each of which the machine makes a Redis."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws, blocked_call, eventually

from localcloud import settings

TOKEN, NEW_TOKEN = "a-token-of-20-letters", "another-of-21-letters"


def _group(aws: EmbeddedAws, name: str = "gcs") -> dict[str, Any]:
    group: dict[str, Any] = aws.client("elasticache").describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    return group


def _create(aws: EmbeddedAws, **wanted: Any) -> dict[str, Any]:
    """Create a replication group with a parameter and a subnet group, and wait until it is no longer `creating`."""
    cache = aws.client("elasticache")
    cache.create_cache_subnet_group(CacheSubnetGroupName="subnets", CacheSubnetGroupDescription="d", SubnetIds=aws.subnets())
    cache.create_cache_parameter_group(CacheParameterGroupName="parameters", CacheParameterGroupFamily="redis7", Description="d")
    noeviction = [{"ParameterName": "maxmemory-policy", "ParameterValue": "noeviction"}]
    cache.modify_cache_parameter_group(CacheParameterGroupName="parameters", ParameterNameValues=noeviction)
    standard = {
        "ReplicationGroupId": "gcs",
        "ReplicationGroupDescription": "d",
        "NumCacheClusters": 2,
        "AutomaticFailoverEnabled": True,
        "TransitEncryptionEnabled": True,
        "AuthToken": TOKEN,
        "CacheParameterGroupName": "parameters",
        "CacheSubnetGroupName": "subnets",
        "Tags": [{"Key": "a", "Value": "b"}],
    }
    cache.create_replication_group(**standard | wanted)
    return eventually(lambda: _group(aws), lambda group: group["Status"] != "creating")  # type: ignore[no-any-return]


def _calls(aws: EmbeddedAws, method: str) -> list[tuple[Any, ...]]:
    return [call[1:] for call in aws.machine.calls if call[0] == method]


def test_a_replication_group_is_a_redis_of_the_machine(aws: EmbeddedAws) -> None:
    group = _create(aws)
    assert _calls(aws, "create_redis") == [("gcs", 1, TOKEN, True, {"maxmemory-policy": "noeviction"})]
    shard = group["NodeGroups"][0]
    assert shard["PrimaryEndpoint"] == {"Address": settings.REDIS_HOSTS[0], "Port": settings.REDIS_PORT}
    assert shard["ReaderEndpoint"]["Address"] == settings.REDIS_HOSTS[1]
    assert [(m["CacheClusterId"], m["CurrentRole"]) for m in shard["NodeGroupMembers"]] == [("gcs-001", "primary"), ("gcs-002", "replica")]
    assert {m["PreferredAvailabilityZone"] for m in shard["NodeGroupMembers"]} == set(settings.AVAILABILITY_ZONES[:2])
    cache = aws.client("elasticache")
    assert cache.list_tags_for_resource(ResourceName=group["ARN"])["TagList"] == [{"Key": "a", "Value": "b"}]
    member = cache.describe_cache_clusters(CacheClusterId="gcs-002", ShowCacheNodeInfo=True)["CacheClusters"][0]
    assert (member["CacheParameterGroup"]["CacheParameterGroupName"], member["CacheSubnetGroupName"]) == ("parameters", "subnets")
    assert member["ReplicationGroupId"] == "gcs"


def test_redis_has_elasticaches_defaults_without_a_parameter_group(aws: EmbeddedAws) -> None:
    _create(aws, CacheParameterGroupName="default.redis7")
    assert _calls(aws, "create_redis")[0][4] == {"maxmemory-policy": "volatile-lru"}


def test_a_new_auth_token_is_in_force_before_the_call_answers(aws: EmbeddedAws) -> None:
    _create(aws)
    modified = aws.client("elasticache").modify_replication_group(
        ReplicationGroupId="gcs", AuthToken=NEW_TOKEN, AuthTokenUpdateStrategy="SET", ApplyImmediately=True
    )["ReplicationGroup"]
    assert modified["Status"] == "available"
    assert _calls(aws, "configure_redis") == [("gcs", NEW_TOKEN, None)]


def test_a_new_auth_token_that_redis_does_not_accept_is_an_error(aws: EmbeddedAws) -> None:
    _create(aws)
    aws.machine.failures["configure_redis"] = "connection refused"
    with pytest.raises(ClientError, match="connection refused"):
        aws.client("elasticache").modify_replication_group(ReplicationGroupId="gcs", AuthToken=NEW_TOKEN, ApplyImmediately=True)


def test_changed_parameters_reach_the_redis_that_uses_them(aws: EmbeddedAws) -> None:
    _create(aws)
    cache, changes = aws.client("elasticache"), [{"ParameterName": "timeout", "ParameterValue": "60"}]
    cache.modify_cache_parameter_group(CacheParameterGroupName="parameters", ParameterNameValues=changes)
    cache.reset_cache_parameter_group(CacheParameterGroupName="parameters", ResetAllParameters=True)
    assert _calls(aws, "configure_redis") == [
        ("gcs", None, {"maxmemory-policy": "noeviction", "timeout": "60"}),
        ("gcs", None, {"maxmemory-policy": "volatile-lru"}),
    ]
    assert cache.describe_cache_parameters(CacheParameterGroupName="parameters", Source="user")["Parameters"] == []


def test_a_failover_makes_a_replica_the_primary(aws: EmbeddedAws) -> None:
    _create(aws)
    with blocked_call(aws.machine, "fail_over_redis"):
        failing_over = aws.client("elasticache").test_failover(ReplicationGroupId="gcs", NodeGroupId="0001")["ReplicationGroup"]
    assert failing_over["Status"] == "modifying"
    group = eventually(lambda: _group(aws), lambda g: g["Status"] == "available")
    assert [m["CurrentRole"] for m in group["NodeGroups"][0]["NodeGroupMembers"]] == ["replica", "primary"]
    assert _calls(aws, "fail_over_redis") == [("gcs",)]


def test_changes_during_a_failover_are_refused_at_once(aws: EmbeddedAws) -> None:
    _create(aws)
    cache, changes = aws.client("elasticache"), [{"ParameterName": "timeout", "ParameterValue": "60"}]
    with blocked_call(aws.machine, "fail_over_redis") as failing_over:
        cache.test_failover(ReplicationGroupId="gcs", NodeGroupId="0001")
        assert failing_over.wait(60)
        for call, code in (
            (lambda: cache.test_failover(ReplicationGroupId="gcs", NodeGroupId="0001"), "InvalidReplicationGroupState"),
            (lambda: cache.modify_replication_group(ReplicationGroupId="gcs", AuthToken=NEW_TOKEN), "InvalidReplicationGroupState"),
            (
                lambda: cache.modify_cache_parameter_group(CacheParameterGroupName="parameters", ParameterNameValues=changes),
                "InvalidCacheParameterGroupState",
            ),
        ):
            with pytest.raises(ClientError, match="modifying") as refused:
                call()
            assert refused.value.response["Error"]["Code"] == code
    eventually(lambda: _group(aws), lambda group: group["Status"] == "available")
    assert _calls(aws, "configure_redis") == []


def test_a_group_whose_redis_cannot_start_is_create_failed_and_can_be_deleted(aws: EmbeddedAws) -> None:
    aws.machine.failures["create_redis"] = "no address left"
    assert _create(aws)["Status"] == "create-failed"
    aws.client("elasticache").delete_replication_group(ReplicationGroupId="gcs")
    eventually(lambda: aws.client("elasticache").describe_replication_groups()["ReplicationGroups"], lambda groups: groups == [])


def test_groups_in_use_are_not_deleted_until_the_replication_group_is(aws: EmbeddedAws) -> None:
    _create(aws)
    cache = aws.client("elasticache")
    for call in (
        lambda: cache.delete_cache_subnet_group(CacheSubnetGroupName="subnets"),
        lambda: cache.delete_cache_parameter_group(CacheParameterGroupName="parameters"),
    ):
        with pytest.raises(ClientError, match="use"):
            call()
    cache.delete_replication_group(ReplicationGroupId="gcs")
    eventually(lambda: cache.describe_replication_groups()["ReplicationGroups"], lambda groups: groups == [])
    assert aws.machine.redis == {}
    cache.delete_cache_subnet_group(CacheSubnetGroupName="subnets")
    cache.delete_cache_parameter_group(CacheParameterGroupName="parameters")
    assert "elasticache/us-west-2" not in aws.get("leftovers")


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"AuthToken": "short"}, "16 to 128"),
        ({"TransitEncryptionEnabled": False}, "needs transit encryption"),
        ({"NumCacheClusters": 1}, "at least one replica"),
        ({"CacheParameterGroupName": "unknown"}, "not found"),
        ({"NumNodeGroups": 3}, "not supported"),
    ],
)
def test_a_replication_group_with_wrong_arguments_is_refused(aws: EmbeddedAws, wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(ClientError, match=why):
        _create(aws, **wanted)
    assert _calls(aws, "create_redis") == []


def test_the_default_parameter_group_that_members_name_can_be_described(aws: EmbeddedAws) -> None:
    _create(aws, CacheParameterGroupName="default.redis7")
    cache = aws.client("elasticache")
    (named,) = {each["CacheParameterGroup"]["CacheParameterGroupName"] for each in cache.describe_cache_clusters()["CacheClusters"]}
    (group,) = cache.describe_cache_parameter_groups(CacheParameterGroupName=named)["CacheParameterGroups"]
    assert group["CacheParameterGroupFamily"] == "redis7"
    (parameter,) = cache.describe_cache_parameters(CacheParameterGroupName=named)["Parameters"]
    assert (parameter["ParameterName"], parameter["ParameterValue"]) == ("maxmemory-policy", "volatile-lru")
    with pytest.raises(ClientError, match="not found"):
        cache.delete_cache_parameter_group(CacheParameterGroupName=named)


def test_cache_clusters_are_members_of_a_replication_group_or_refused(aws: EmbeddedAws) -> None:
    _create(aws)
    cache = aws.client("elasticache")
    assert cache.describe_cache_clusters(ShowCacheClustersNotInReplicationGroups=True)["CacheClusters"] == []
    for call in (
        lambda: cache.create_cache_cluster(CacheClusterId="alone", Engine="redis", NumCacheNodes=1),
        lambda: cache.delete_cache_cluster(CacheClusterId="gcs-002"),
        lambda: cache.create_user(UserId="user", UserName="user", Engine="redis", AccessString="on", NoPasswordRequired=True),
    ):
        with pytest.raises(ClientError, match="embedded cloud does not do this"):
            call()
    assert len(cache.describe_cache_clusters()["CacheClusters"]) == 2
