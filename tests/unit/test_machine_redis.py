"""Redis, without a server: the protocol, parameters, addresses."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud import settings
from localcloud.machine import MachineError
from localcloud.redis import quoted, server_parameters
from localcloud.redisgroups import allocate
from localcloud.resp import RedisError, decode, encode, info


def test_a_command_goes_over_the_line_as_counted_strings() -> None:
    assert encode(("SET", "k", "ü")) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\xc3\xbc\r\n"


@given(st.lists(st.text(), min_size=1))
def test_what_was_encoded_is_decoded(words: list[str]) -> None:
    assert decode(io.BytesIO(encode(tuple(words)))) == words


@pytest.mark.parametrize(("line", "value"), [(b"+OK\r\n", "OK"), (b":-3\r\n", -3), (b"$-1\r\n", None), (b"*-1\r\n", None), (b"*0\r\n", [])])
def test_a_reply_is_what_the_server_said(line: bytes, value: object) -> None:
    assert decode(io.BytesIO(line)) == value


def test_an_error_reply_raises_the_servers_words() -> None:
    with pytest.raises(RedisError, match="NOAUTH Authentication required"):
        decode(io.BytesIO(b"-NOAUTH Authentication required.\r\n"))


@pytest.mark.parametrize("line", [b"", b"+OK", b"?\r\n"])
def test_half_a_reply_is_a_broken_connection(line: bytes) -> None:
    with pytest.raises(ConnectionError):
        decode(io.BytesIO(line))


def test_info_is_read_by_field() -> None:
    assert info("# Replication\r\nrole:slave\r\nmaster_link_status:up\r\n") == {"role": "slave", "master_link_status": "up"}


def test_an_auth_token_with_quotes_survives_the_configuration_file() -> None:
    assert quoted('a"b\\c #') == '"a\\"b\\\\c #"'


def test_an_auth_token_cannot_bring_lines_of_its_own() -> None:
    with pytest.raises(MachineError, match="printable"):
        quoted("a\nsave 1 1")


def test_parameters_that_only_elasticache_knows_are_left_out() -> None:
    parameters = {"maxmemory-policy": "noeviction", "reserved-memory-percent": "25", "cluster-enabled": "no"}
    assert server_parameters(parameters) == {"maxmemory-policy": "noeviction"}


def test_cluster_mode_is_refused() -> None:
    with pytest.raises(MachineError, match="cluster mode"):
        server_parameters({"cluster-enabled": "yes"})


def test_addresses_are_the_first_free_ones() -> None:
    assert allocate({settings.REDIS_HOSTS[0]}, 2) == list(settings.REDIS_HOSTS[1:3])


def test_more_redis_than_addresses_is_refused_with_what_is_left() -> None:
    with pytest.raises(MachineError, match="only for 2"):
        allocate(set(settings.REDIS_HOSTS[2:]), 3)
