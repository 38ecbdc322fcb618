"""A small Redis client for administration: the password goes over the connection, never on a command line.

Not redis-py: that adds the given CA to the system's instead of trusting the given one alone, retries by itself, and takes
0.3 s to import.
"""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import BinaryIO, Self

Reply = str | int | None | list["Reply"]


class RedisError(Exception):
    """An error reply; the text is the server's."""


class Connection:
    """An authenticated connection to one Redis server, closed by `with`. Not thread-safe."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, password: str | None, within: float = 5.0) -> None:
        """Connect; OSError when there is no answer within `within` seconds, RedisError when the password is wrong."""
        raw = socket.create_connection((host, port), timeout=within)
        try:
            self._socket = tls.wrap_socket(raw, server_hostname=host) if tls else raw
        except OSError:
            raw.close()
            raise
        self._input: BinaryIO = self._socket.makefile("rb")
        try:
            if password:
                self.call("AUTH", password)
        except (OSError, RedisError):
            self.close()
            raise

    def call(self, *words: str) -> Reply:
        """Send a command; return the server's reply."""
        self._socket.sendall(encode(words))
        return decode(self._input)

    def close(self) -> None:
        """Close the connection to the server."""
        self._input.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def encode(words: tuple[str, ...]) -> bytes:
    """Encode a command as the protocol's array of byte strings."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def decode(source: BinaryIO) -> Reply:
    """Read the next reply; RedisError when it is an error, ConnectionError when the connection ends within it."""
    line = source.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the connection ended within a reply")
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"-":
        raise RedisError(rest)
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if int(rest) < 0 else source.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return None if int(rest) < 0 else [decode(source) for _ in range(int(rest))]
    raise ConnectionError(f"not a Redis reply: {line[:40]!r}")


def info(text: Reply) -> dict[str, str]:
    """Parse the reply to INFO into its fields."""
    rows = (line.partition(":") for line in str(text).splitlines() if ":" in line)
    return {key: value for key, _, value in rows}
