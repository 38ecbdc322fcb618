"""What `ray start` has no option for: Ray calls `prepare` before it starts anything, because RAY_START_HOOK names it."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

PROBES = {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""The kernel asks the other side after 5 s without a packet, every 5 s; three of those without an answer end the connection: 20 s."""
CONNECT_S = 5.0
"""Seconds for a connection, and until the next one is tried."""
TRIES = 4
"""Connections in a row that get no answer after which Redis is silent; they take 20 s or more."""


def prepare(parameters: Any, head: bool) -> None:
    """Start no Ray Client server on the head, and end a head that is cut off from Redis.

    Nothing here uses that server, and it would delay a new head; if gRPC is installed, `ray start` always uses port 10001 for it.

    A GCS that is cut off goes on: after 65 s it takes all workers for dead, and has them end when it is back. Before that its Serve
    controller takes replicas for crashed whose connections broke. A head that ends is replaced, and the next one finds them all.
    """
    if head:
        parameters.ray_client_server_port = None
        if address := os.environ.get("RAY_REDIS_ADDRESS"):
            threading.Thread(target=_end_without, args=(host_and_port(address),), daemon=True).start()


def host_and_port(address: str) -> tuple[str, int]:
    """Return where the first of the Redis servers is that Ray is told of, with or without a scheme."""
    first = address.partition(",")[0]
    parts = urlsplit(first if "://" in first else f"//{first}")
    return parts.hostname or "", parts.port or 6379


def _end_without(redis: tuple[str, int]) -> None:
    wait_until_silent(lambda: socket.create_connection(redis, CONNECT_S))
    print(f"this head is cut off: Redis at {redis[0]} has not answered for 20 s, so it ends and starts again", file=sys.stderr, flush=True)
    os._exit(1)


def wait_until_silent(connect: Callable[[], socket.socket], pause: Callable[[float], None] = time.sleep) -> None:
    """Return when what was reached once answers nothing any more, not even with a refusal.

    One connection is kept, over which nothing is sent. When the other side closes or refuses it, Redis has ended or moved: that the GCS
    notices by itself, and a connection to the next one has several tries. A name that is not found is no silence of Redis either.
    """
    reached, unanswered = False, 0
    while unanswered < TRIES:
        try:
            connection = connect()
        except (ConnectionError, socket.gaierror):
            unanswered = 0
        except OSError:  # no answer in time, or no way there
            unanswered += reached
        else:
            reached, unanswered = True, 0
            if _falls_silent(connection):
                return
        pause(CONNECT_S)


def _falls_silent(connection: socket.socket) -> bool:
    """Wait for the end of a connection; return whether the kernel gave it up, because no probe was answered."""
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in PROBES.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.settimeout(None)
        try:
            connection.recv(1)
        except OSError as error:
            return not isinstance(error, ConnectionError)
        return False
