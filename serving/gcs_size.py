"""Size of a Ray cluster's state in Redis: prints the number of fields in all hashes of the cluster.

    python3 -m serving.gcs_size

Runs in a container of the head: address and password of Redis and the cluster's name there are in the environment, as KubeRay sets them.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from io import BufferedReader
from typing import Any
from urllib.parse import urlsplit

ANSWER_S = 5.0


class RedisError(Exception):
    """Redis answered with an error; the message is its own."""


class Connection:
    """A connection to Redis."""

    def __init__(self, address: str, ca_file: str | None) -> None:
        """Connect to an address such as rediss://host:6379; without TLS if the scheme is another one."""
        parts = urlsplit(address if "://" in address else f"redis://{address}")
        host = parts.hostname or ""
        self._socket = socket.create_connection((host, parts.port or 6379), timeout=ANSWER_S)
        if parts.scheme == "rediss":
            self._socket = ssl.create_default_context(cafile=ca_file).wrap_socket(self._socket, server_hostname=host)
        self._answers: BufferedReader = self._socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()

    def ask(self, *words: str) -> Any:
        """Send one command and return the answer."""
        encoded = [word.encode() for word in words]
        self._socket.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
        return self._answer()

    def _answer(self) -> Any:
        kind, rest = self._line()
        if kind == b"-":
            raise RedisError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        if kind == b"$":
            return None if int(rest) < 0 else self._answers.read(int(rest) + 2)[:-2].decode(errors="replace")
        return rest.decode(errors="replace")

    def _line(self) -> tuple[bytes, bytes]:
        line = self._answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("Redis closed the connection")
        return line[:1], line[1:-2]


def entries(env: Mapping[str, str]) -> int:
    """Count the fields in all hashes of the cluster that has this environment. Ray keeps each of its tables in one hash.

    Raises:
        KeyError: the environment names no Redis.
        OSError, RedisError: Redis cannot be asked.
    """
    prefix, cursor, keys = f"RAY{env.get('RAY_external_storage_namespace', 'default')}@", "0", set()
    with Connection(env["RAY_REDIS_ADDRESS"], env.get("RAY_REDIS_CA_CERT")) as redis:
        if password := env.get("REDIS_PASSWORD"):
            redis.ask("AUTH", password)
        while True:
            cursor, found = redis.ask("SCAN", cursor, "COUNT", "1000")
            keys.update(key for key in found if key.startswith(prefix))
            if cursor == "0":
                return sum(redis.ask("HLEN", key) for key in keys if redis.ask("TYPE", key) == "hash")


if __name__ == "__main__":
    print(entries(os.environ))
