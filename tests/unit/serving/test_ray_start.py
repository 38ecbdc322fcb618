"""The head's watch on its Redis: it ends when Redis is silent, and only then."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from serving.ray_start import PROBES, TRIES, host_and_port, wait_until_silent


class Connection:
    """A connection to Redis that ends in one way."""

    def __init__(self, end: OSError | bytes) -> None:
        self.end = end

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setsockopt(self, *_: int) -> None:
        pass

    def settimeout(self, _seconds: float | None) -> None:
        pass

    def recv(self, _count: int) -> bytes:
        if isinstance(self.end, OSError):
            raise self.end
        return self.end


def watched(*meets: OSError | Connection | socket.socket) -> None:
    """Watch until the end, where each attempt to connect meets one of these, in order."""
    left = iter(meets)

    def connect() -> Any:
        met = next(left)
        if isinstance(met, OSError):
            raise met
        return met

    wait_until_silent(connect, pause=lambda _: None)
    assert next(left, None) is None, "it returned before the end"


def test_a_connection_that_the_kernel_gives_up_ends_the_watch() -> None:
    watched(Connection(TimeoutError(errno.ETIMEDOUT, "timed out")))
    watched(Connection(OSError(errno.EHOSTUNREACH, "no route to host")))


def test_a_redis_that_closes_or_refuses_is_there() -> None:
    end = Connection(TimeoutError())
    watched(Connection(b""), Connection(ConnectionResetError()), ConnectionRefusedError(), end)


def test_nothing_ends_before_redis_was_reached_once() -> None:
    watched(socket.gaierror(), TimeoutError(), Connection(TimeoutError()))


def test_a_name_that_is_not_found_any_more_is_no_silence() -> None:
    watched(Connection(b""), *[socket.gaierror()] * 9, Connection(TimeoutError()))


@pytest.mark.parametrize("silence", [TimeoutError(), OSError(errno.ENETUNREACH, "network is unreachable")])
def test_a_redis_that_closed_and_cannot_be_reached_has_several_tries(silence: OSError) -> None:
    fewer = [silence] * (TRIES - 1)
    watched(Connection(b""), *fewer, ConnectionRefusedError(), *fewer, Connection(b""), *fewer, silence)


@pytest.mark.parametrize("address", ["redis:6380", "rediss://redis:6380", "redis:6380,other:1"])
def test_ray_is_told_of_redis_with_or_without_a_scheme(address: str) -> None:
    assert host_and_port(address) == ("redis", 6380)
    assert host_and_port("rediss://redis") == ("redis", 6379)


def test_the_kernel_asks_the_other_side_of_a_real_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = socket.create_connection(server.getsockname())
        server.accept()[0].close()
        watched(kept.dup(), *[TimeoutError()] * TRIES)  # a duplicate has the options of its original
    with kept:
        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert {option: kept.getsockopt(socket.IPPROTO_TCP, option) for option in PROBES} == PROBES
