"""Loopback ports lead to the address that the cluster's DNS has at the moment of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from dns import message, rcode, rrset

from scripts.installed import forward
from scripts.installed.forward import NoAddress, listen, resolve
from scripts.services.services import Forward, free_port

NAME = "mistral-head-svc.mistral.svc.cluster.local"


@pytest.mark.parametrize("text", ["8000", "8000=host", "port=host:80", "8000=:80"])
def test_a_malformed_forward_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"PORT=HOST:PORT|invalid literal"):
        Forward.parse(text)


def test_the_text_of_a_forward_can_be_parsed_again() -> None:
    assert str(Forward.parse(f"8265={NAME}:8265")) == f"8265={NAME}:8265"


class Dns(asyncio.DatagramProtocol):
    """A DNS server that answers with one address for every name, or with NXDOMAIN."""

    def __init__(self) -> None:
        self.address = "127.0.0.1"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        reply = message.make_response(query := message.from_wire(data))
        if self.address:
            reply.answer.append(rrset.from_text(query.question[0].name, 5, "IN", "A", self.address))
        else:
            reply.set_rcode(rcode.NXDOMAIN)
        self.transport.sendto(reply.to_wire(), sender)  # type: ignore[attr-defined]


async def in_cluster(check: Callable[[Dns, int, int], Awaitable[None]]) -> None:
    """Run `check(dns, forwarded port, target port)`; a server at the target port answers in capitals once the client has sent all."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, dns = await asyncio.get_running_loop().create_datagram_endpoint(Dns, local_addr=("127.0.0.1", 0))
    into = Forward(free_port(0), NAME, port)
    listening = await listen(into, transport.get_extra_info("sockname"))
    async with server, listening:
        await asyncio.wait_for(check(dns, into.port, port), 20)
    transport.close()


async def talk(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


def test_bytes_are_forwarded_both_ways_and_the_end_of_one_direction_too() -> None:
    async def check(_dns: Dns, port: int, _target: int) -> None:
        assert await talk(port) == b"HELLO"

    asyncio.run(in_cluster(check))


def test_a_name_without_an_address_resets_the_connection_and_is_resolved_again_for_the_next_one() -> None:
    async def check(dns: Dns, port: int, _target: int) -> None:
        dns.address = ""
        with pytest.raises(ConnectionError):
            await talk(port)
        dns.address = "127.0.0.1"
        assert await talk(port) == b"HELLO"

    asyncio.run(in_cluster(check))


def test_a_target_that_does_not_listen_resets_the_connection() -> None:
    async def check(dns: Dns, port: int, _target: int) -> None:
        dns.address = "127.0.0.2"  # nothing listens there
        with pytest.raises(ConnectionError):
            await talk(port)

    asyncio.run(in_cluster(check))


def test_an_unreachable_dns_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TIMEOUT_S", 0.2)
    with pytest.raises(NoAddress, match="no address from the cluster's DNS"):
        asyncio.run(resolve(NAME, ("127.0.0.1", free_port(0))))
