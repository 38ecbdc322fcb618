"""Replication groups are real Redis servers, used as on AWS: TLS, AUTH, an address that follows the primary."""

from __future__ import annotations

import contextlib
import secrets
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bare_cluster
import pytest
from machine_state import command_line
from system_under_test import System

from localcloud import settings
from localcloud.machine import cgroups
from localcloud.machine.redis.protocol import Connection, RedisError
from tests.waiting import eventually

GROUP = "leeward-test"


class Group:
    """A replication group, with the CA and the token that its clients need."""

    def __init__(self, elasticache: Any, ca: Path, token: str | None) -> None:
        self.elasticache, self.ca, self.token = elasticache, ca, token

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.elasticache.describe_replication_groups(ReplicationGroupId=GROUP)["ReplicationGroups"][0]
        return found

    def wait(self) -> None:
        def status() -> str:
            found = str(self.describe()["Status"])
            assert found in ("creating", "modifying", "available")
            return found

        eventually(status, "available")

    def address(self, which: str = "PrimaryEndpoint") -> str:
        return str(self.describe()["NodeGroups"][0][which]["Address"])

    def connect(self, which: str = "PrimaryEndpoint") -> Connection:
        tls = ssl.create_default_context(cafile=str(self.ca)) if self.token else None
        return Connection(self.address(which), settings.REDIS_PORT, tls=tls, password=self.token, within=60)


@contextlib.contextmanager
def replication_group(aws: bare_cluster.Aws, ca: Path, *, members: int, tls: bool) -> Iterator[Group]:
    """Create the replication group, and delete it afterwards."""
    elasticache = aws("elasticache")
    token = secrets.token_hex(16) if tls else None
    with bare_cluster.subnets(aws, "10.31") as subnets:
        elasticache.create_cache_subnet_group(CacheSubnetGroupName=GROUP, CacheSubnetGroupDescription="test", SubnetIds=subnets)
        elasticache.create_replication_group(
            ReplicationGroupId=GROUP,
            ReplicationGroupDescription="test",
            Engine="redis",
            CacheNodeType="cache.t4g.small",
            NumCacheClusters=members,
            AutomaticFailoverEnabled=members > 1,
            CacheSubnetGroupName=GROUP,
            TransitEncryptionEnabled=tls,
            **({"AuthToken": token} if token else {}),
        )
        try:
            found = Group(elasticache, ca, token)
            found.wait()
            yield found
        finally:
            elasticache.delete_replication_group(ReplicationGroupId=GROUP)
            left = elasticache.describe_replication_groups
            eventually(lambda: GROUP in [each["ReplicationGroupId"] for each in left()["ReplicationGroups"]], False)
            elasticache.delete_cache_subnet_group(CacheSubnetGroupName=GROUP)
    assert not [line for line in command_lines() if "redis-server" in line]


@pytest.fixture(scope="module")
def ca(cloud: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the CA that signs the servers' certificates."""
    file = tmp_path_factory.mktemp("redis") / "ca.pem"
    file.write_text(cloud.endpoint["redis_ca_pem"])
    return file


@pytest.fixture(scope="module")
def group(aws: bare_cluster.Aws, ca: Path) -> Iterator[Group]:
    """Two members with TLS and AUTH, shared by the tests: after each the group is available again."""
    with replication_group(aws, ca, members=2, tls=True) as made:
        yield made


def command_lines() -> list[str]:
    """Return the command lines of the cloud's processes."""
    return [command_line(pid) for pid in cgroups.processes()]


def test_the_only_member_of_a_group_without_tls_accepts_writes(aws: bare_cluster.Aws, ca: Path) -> None:
    with replication_group(aws, ca, members=1, tls=False) as group, group.connect() as primary:
        assert primary.call("SET", "k", "v") == "OK"


def test_the_reader_has_what_was_written_to_the_primary_and_refuses_writes(group: Group) -> None:
    with group.connect() as primary:
        primary.call("SET", "k", "v")
        assert primary.call("WAIT", "1", "30000") == 1
    with group.connect("ReaderEndpoint") as reader:
        assert reader.call("GET", "k") == "v"
        with pytest.raises(RedisError, match="READONLY"):
            reader.call("SET", "k", "w")


def test_redis_cli_connects_with_tls_and_token_only(group: Group) -> None:
    argv = ["redis-cli", "-h", group.address()]
    tls = ["--tls", "--cacert", str(group.ca)]

    def ping(*arguments: str, token: str | None = None) -> str:
        environment = {"PATH": "/usr/bin:/bin", **({"REDISCLI_AUTH": token} if token else {})}
        done = subprocess.run([*argv, *arguments, "ping"], capture_output=True, text=True, timeout=60, env=environment, check=False)
        return done.stdout + done.stderr

    assert "PONG" in ping(*tls, token=group.token)
    assert "NOAUTH" in ping(*tls)
    assert "PONG" not in ping(token=group.token)


def test_after_a_failover_the_same_address_accepts_writes_and_has_the_data(group: Group) -> None:
    address = group.address()
    for turn in range(2):
        with group.connect() as primary:
            primary.call("SET", f"k{turn}", "v")
            assert primary.call("WAIT", "1", "30000") == 1
        group.elasticache.test_failover(ReplicationGroupId=GROUP, NodeGroupId="0001")
        group.wait()
        assert group.address() == address
        with group.connect() as primary:
            assert [primary.call("GET", f"k{n}") for n in range(turn + 1)] == ["v"] * (turn + 1)
            role = primary.call("ROLE")
            assert isinstance(role, list)
            assert role[0] == "master"
            assert primary.call("WAIT", "1", "30000") == 1, "the old primary follows the new one"


def test_a_failover_of_a_stopped_primary_restores_both_addresses_with_the_data(group: Group) -> None:
    with group.connect() as primary:
        primary.call("SET", "k", "v")
        assert primary.call("WAIT", "1", "30000") == 1
        with pytest.raises((OSError, RedisError)):
            primary.call("SHUTDOWN", "NOSAVE")
    group.elasticache.test_failover(ReplicationGroupId=GROUP, NodeGroupId="0001")
    group.wait()
    with group.connect() as primary:
        assert primary.call("SET", "l", "w") == "OK"
        assert primary.call("WAIT", "1", "30000") == 1, "the stopped member follows the new primary"
    with group.connect("ReaderEndpoint") as reader:
        assert [reader.call("GET", key) for key in ("k", "l")] == ["v", "w"]


def test_a_failover_cuts_the_connections_to_the_old_primary(group: Group) -> None:
    with group.connect() as old:
        assert old.call("PING") == "PONG"
        group.elasticache.test_failover(ReplicationGroupId=GROUP, NodeGroupId="0001")
        group.wait()
        with pytest.raises((OSError, RedisError)):
            old.call("SET", "k", "v")


def test_after_a_rotation_the_new_token_is_valid_and_the_old_one_is_not(group: Group) -> None:
    before = Group(group.elasticache, group.ca, group.token)
    group.token = secrets.token_hex(16)
    group.elasticache.modify_replication_group(
        ReplicationGroupId=GROUP, AuthToken=group.token, AuthTokenUpdateStrategy="SET", ApplyImmediately=True
    )
    group.wait()
    with group.connect() as connection:
        assert connection.call("PING") == "PONG"
    with pytest.raises(RedisError, match="WRONGPASS"):
        before.connect()


def test_the_auth_token_is_on_no_command_line(group: Group) -> None:
    assert group.token
    lines = command_lines()
    assert any("redis-server" in line for line in lines)
    assert not [line for line in lines if group.token in line]
