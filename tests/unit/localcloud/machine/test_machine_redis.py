"""Redis, without a server: the protocol, parameters, addresses, failover."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud import settings
from localcloud.machine import network
from localcloud.machine.interface import MachineError
from localcloud.machine.redis.group import Group, Member, quote, server_parameters
from localcloud.machine.redis.protocol import RedisError, decode, encode, info
from localcloud.machine.redis.registry import allocate


def test_a_command_is_encoded_as_strings_with_their_length() -> None:
    assert encode(("SET", "k", "ü")) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\xc3\xbc\r\n"


@given(st.lists(st.text(), min_size=1))
def test_an_encoded_command_is_decoded_to_the_same_words(words: list[str]) -> None:
    assert decode(io.BytesIO(encode(tuple(words)))) == words


@pytest.mark.parametrize(("line", "value"), [(b"+OK\r\n", "OK"), (b":-3\r\n", -3), (b"$-1\r\n", None), (b"*-1\r\n", None), (b"*0\r\n", [])])
def test_every_kind_of_reply_is_decoded_to_its_value(line: bytes, value: object) -> None:
    assert decode(io.BytesIO(line)) == value


def test_an_error_reply_raises_the_servers_message() -> None:
    with pytest.raises(RedisError, match="NOAUTH Authentication required"):
        decode(io.BytesIO(b"-NOAUTH Authentication required.\r\n"))


@pytest.mark.parametrize("line", [b"", b"+OK", b"?\r\n"])
def test_an_incomplete_reply_is_a_broken_connection(line: bytes) -> None:
    with pytest.raises(ConnectionError):
        decode(io.BytesIO(line))


def test_a_reply_to_info_is_parsed_into_fields() -> None:
    assert info("# Replication\r\nrole:slave\r\nmaster_link_status:up\r\n") == {"role": "slave", "master_link_status": "up"}


def test_an_auth_token_with_quotes_survives_the_configuration_file() -> None:
    assert quote('a"b\\c #') == '"a\\"b\\\\c #"'


def test_an_auth_token_cannot_add_lines_to_the_configuration_file() -> None:
    with pytest.raises(MachineError, match="printable"):
        quote("a\nsave 1 1")


def test_parameters_that_only_elasticache_has_are_left_out() -> None:
    parameters = {"maxmemory-policy": "noeviction", "reserved-memory-percent": "25", "cluster-enabled": "no"}
    assert server_parameters(parameters) == {"maxmemory-policy": "noeviction"}


def test_cluster_mode_is_refused() -> None:
    with pytest.raises(MachineError, match="cluster mode"):
        server_parameters({"cluster-enabled": "yes"})


def test_a_group_gets_the_first_free_addresses() -> None:
    assert allocate({settings.REDIS_HOSTS[0]}, 2) == list(settings.REDIS_HOSTS[1:3])


def test_a_group_for_which_there_are_too_few_addresses_is_refused_with_their_number() -> None:
    with pytest.raises(MachineError, match="only for 2"):
        allocate(set(settings.REDIS_HOSTS[2:]), 3)


class FakeMember(Member):
    """A member without a server and without a network namespace."""

    def __init__(self, group: Group, index: int, namespaces: dict[str, set[str]]) -> None:
        super().__init__(group, index, f"10.0.0.{index}")
        self.namespaces = namespaces
        self.alive = True
        self.can_start = True
        self.follows: str | None = None
        self.offset = 0
        self.link = "up"
        self.parameters: dict[str, str] = {}

    def start(self, primary: Member) -> None:
        if not self.can_start:
            raise MachineError(f"{self.netns} does not start")
        self.namespaces[self.netns] = set()
        self.alive, self.parameters = True, {}
        self.follows = primary.address if primary is not self else None

    def stop(self) -> None:
        self.alive = False
        self.namespaces.pop(self.netns, None)

    def call(self, *words: str) -> str:
        if not self.alive:
            raise MachineError(f"{self.netns} does not answer")
        match words:
            case ("REPLICAOF", "NO", "ONE"):
                self.follows = None
            case ("REPLICAOF", address, _):
                self.follows = address
            case ("CONFIG", "SET", key, value):
                self.parameters[key] = value
            case ("INFO", "replication") if self.follows:
                return f"master_link_status:{self.link}\r\nslave_repl_offset:{self.offset}\r\n"
        return "OK"


class FakeGroup:
    """A running group of three fake members; member 2 has replicated more than member 1."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.namespaces: dict[str, set[str]] = {}
        self.group = Group("gcs", folder, folder, [f"10.1.0.{index}" for index in range(5)], None, None)
        self.members = [FakeMember(self.group, index, self.namespaces) for index in range(3)]
        self.members[1].offset, self.members[2].offset = 10, 20
        self.group.members = list(self.members)
        self.group.primary = self.members[0]
        monkeypatch.setattr(network, "move_address", self._move_address)
        self.group.start({"maxmemory-policy": "noeviction"})

    def _move_address(self, address: str, *, old: str | None, new: str) -> None:
        for name in (old, new):
            if name is not None and name not in self.namespaces:
                raise MachineError(f"there is no network namespace {name}")
        if old is not None:
            self.namespaces[old].discard(address)
        self.namespaces[new].add(address)

    def where(self, address: str) -> list[int]:
        """Return the indexes of the members that answer at the address."""
        return [member.index for member in self.members if member.alive and address in self.namespaces[member.netns]]

    @property
    def primary(self) -> list[int]:
        return self.where(self.group.endpoints.primary)

    @property
    def reader(self) -> list[int]:
        return self.where(self.group.endpoints.reader)


@pytest.fixture
def gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGroup:
    return FakeGroup(tmp_path, monkeypatch)


def test_the_replica_that_replicated_most_is_promoted_and_the_others_follow_it(gcs: FakeGroup) -> None:
    assert gcs.group.fail_over() == 2
    assert [member.follows for member in gcs.members] == ["10.0.0.2", "10.0.0.2", None]
    assert (gcs.primary, gcs.reader) == ([2], [0])


def test_a_dead_primary_is_replaced_by_a_replica_with_the_groups_parameters_and_both_addresses_answer(gcs: FakeGroup) -> None:
    gcs.group.set_parameters({"timeout": "60"})
    gcs.members[0].alive = False
    assert gcs.group.fail_over() == 2
    assert (gcs.primary, gcs.reader) == ([2], [0])
    assert gcs.members[0].follows == "10.0.0.2"
    assert gcs.members[0].parameters == {"maxmemory-policy": "noeviction", "timeout": "60"}


def test_a_replica_that_does_not_answer_is_not_promoted_but_replaced(gcs: FakeGroup) -> None:
    gcs.members[2].alive = False
    assert gcs.group.fail_over() == 1
    assert gcs.members[2].alive
    assert gcs.members[2].follows == "10.0.0.1"


def test_the_readers_address_moves_when_its_member_died_and_cannot_be_replaced(gcs: FakeGroup) -> None:
    gcs.members[1].alive = gcs.members[1].can_start = False
    assert gcs.group.fail_over() == 2
    assert (gcs.primary, gcs.reader) == ([2], [0])


def test_a_promotion_stands_even_if_replicas_are_not_in_sync_in_time(gcs: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localcloud.machine.redis.group.IN_SYNC_WITHIN", 0.0)
    gcs.members[0].link = "down"
    assert gcs.group.fail_over() == 2
    assert gcs.group.primary is gcs.members[2]


def test_a_failover_without_a_replica_that_answers_changes_nothing(gcs: FakeGroup) -> None:
    gcs.members[1].alive = gcs.members[2].alive = False
    with pytest.raises(MachineError, match="no replica to fail over to that answers"):
        gcs.group.fail_over()
    assert gcs.group.primary is gcs.members[0]
    assert gcs.primary == [0]
