"""TCP from loopback into the cluster: `python3 -m scripts.services.forward 8000=mistral-serve-svc.mistral.svc.cluster.local:8000 …`.

The cloud's addresses are routed on the host, but a browser on another machine reaches only what a tunnel to this machine's
loopback reaches. The cluster's own DNS resolves the name at every connection, so a service that was deployed again at another
address is found.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

CLUSTER_DNS = ("172.20.0.10", 53)
"""Address and port of the DNS of every EKS cluster with this service network."""
TIMEOUT_S = 5.0
"""Seconds to wait for a DNS answer or a connection."""


class NoAddress(OSError):
    """The cluster's DNS has no address for the name; the text has its answer."""


@dataclass(frozen=True)
class Forward:
    """One loopback port and its target in the cluster."""

    port: int
    host: str
    """DNS name in the cluster, or an IPv4 address."""
    target_port: int

    @classmethod
    def parse(cls, text: str) -> Forward:
        """Parse `8000=name.namespace.svc.cluster.local:8000`; raises ValueError for anything else."""
        port, _, target = text.partition("=")
        host, _, target_port = target.rpartition(":")
        if not host:
            raise ValueError(f"not PORT=HOST:PORT: {text!r}")
        return cls(int(port), host, int(target_port))

    def __str__(self) -> str:
        return f"{self.port}={self.host}:{self.target_port}"


def question(name: str, number: int) -> bytes:
    """Return a DNS query, with this id, for the IPv4 addresses of `name`."""
    labels = b"".join(bytes([len(part)]) + part.encode("ascii") for part in name.rstrip(".").split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)


def addresses(answer: bytes, number: int) -> list[str]:
    """Return the IPv4 addresses in a DNS answer; raises NoAddress when it has none or is not for query `number`."""
    try:
        got, flags, questions, answers, _, _ = struct.unpack_from(">6H", answer)
        if got != number or flags & 0x000F:
            raise NoAddress(f"DNS answered with code {flags & 0x000F}")
        at = 12
        for _ in range(questions):
            at = _after_name(answer, at) + 4
        found = []
        for _ in range(answers):
            at = _after_name(answer, at)
            kind, _, _, length = struct.unpack_from(">2HIH", answer, at)
            data = answer[at + 10 : at + 10 + length]
            at += 10 + length
            if kind == 1:
                found.append(str(ipaddress.IPv4Address(data)))
    except (struct.error, IndexError, ValueError) as error:
        raise NoAddress(f"unreadable DNS answer: {error}") from error
    if not found:
        raise NoAddress("DNS knows the name but no address: no pod is ready behind it")
    return found


def _after_name(message: bytes, at: int) -> int:
    while message[at]:
        if message[at] & 0xC0:  # a pointer ends a name
            return at + 2
        at += 1 + message[at]
    return at + 1


class _DnsQuery(asyncio.DatagramProtocol):
    """Sends one query and puts its answer into the future `answer`."""

    def __init__(self, query: bytes) -> None:
        self.query, self.answer = query, asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.sendto(self.query)  # type: ignore[attr-defined]  # a datagram transport has it

    def datagram_received(self, data: bytes, _address: object) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(NoAddress(f"no DNS in the cluster: {error}"))


async def resolve(name: str, server: tuple[str, int] = CLUSTER_DNS) -> str:
    """Resolve `name` to an address. Raises NoAddress, also when no answer comes in time."""
    with suppress(ValueError):
        return str(ipaddress.IPv4Address(name))
    number = secrets.randbelow(1 << 16)
    transport, query = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _DnsQuery(question(name, number)), remote_addr=server
    )
    try:
        return addresses(await asyncio.wait_for(query.answer, TIMEOUT_S), number)[0]
    except TimeoutError:
        raise NoAddress(f"{name}: no answer from the cluster's DNS within {TIMEOUT_S:.0f} s") from None
    finally:
        transport.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


async def _serve(forward: Forward, dns: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        target = await asyncio.wait_for(asyncio.open_connection(await resolve(forward.host, dns), forward.target_port), TIMEOUT_S)
    except (OSError, TimeoutError) as error:
        print(f"{forward}: {error or 'no connection in time'}", flush=True)
        # The client sees a reset, as from a port without a listener, instead of an empty answer.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_copy(reader, target[1]), _copy(target[0], writer))
    finally:
        target[1].close()
        writer.close()


async def listen(forward: Forward, dns: tuple[str, int] = CLUSTER_DNS) -> asyncio.Server:
    """Forward connections to 127.0.0.1:`forward.port` into the cluster until the returned server is closed."""
    return await asyncio.start_server(lambda r, w: _serve(forward, dns, r, w), "127.0.0.1", forward.port)


async def run(forwards: Sequence[Forward]) -> None:
    """Serve all forwards until cancelled."""
    servers = [await listen(forward) for forward in forwards]
    print(f"forwarding {', '.join(map(str, forwards))}", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(run([Forward.parse(argument) for argument in sys.argv[1:]]))
