"""Redis's protocol, as far as an administrator needs it: the password goes over the connection, never on a command line."""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import BinaryIO, Self

Reply = str | int | None | list["Reply"]


class RedisError(Exception):
    """The server answered with an error; the text is the server's."""


class Connection:
    """An authenticated connection to one Redis server. A context manager; not for several threads."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, password: str | None, within: float = 5.0) -> None:
        """Connects; OSError when nobody answers within `within` seconds, RedisError when the password is wrong."""
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
        """What the server answers to this command."""
        self._socket.sendall(encode(words))
        return decode(self._input)

    def close(self) -> None:
        """Nothing of the connection is left."""
        self._input.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def encode(words: tuple[str, ...]) -> bytes:
    """A command as it goes over the line: an array of byte strings."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def decode(source: BinaryIO) -> Reply:
    """The next reply; RedisError when it is an error, ConnectionError when the line ends in it."""
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
    """The fields of an INFO reply."""
    rows = (line.partition(":") for line in str(text).splitlines() if ":" in line)
    return {key: value for key, _, value in rows}
