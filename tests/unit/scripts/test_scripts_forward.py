"""Loopback ports lead to the address that the cluster's DNS has at the moment of the connection."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

import pytest

from scripts.services.forward import Forward, NoAddress, addresses, listen, question, resolve
from scripts.services.services import free_port

NAME = "mistral-head-svc.mistral.svc.cluster.local"


def answer(number: int, *records: tuple[int, bytes], code: int = 0) -> bytes:
    """Return a DNS answer that repeats the question and refers to its name by a pointer, as servers do."""
    asked = question(NAME, number)[12:]
    head = struct.pack(">6H", number, 0x8180 | code, 1, len(records), 0, 0)
    return head + asked + b"".join(b"\xc0\x0c" + struct.pack(">2HIH", kind, 1, 5, len(data)) + data for kind, data in records)


def test_a_dns_query_has_the_documented_bytes() -> None:
    asked = question("chat.chat", 7)
    assert asked == b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04chat\x04chat\x00\x00\x01\x00\x01"


def test_the_addresses_of_an_answer_are_read_and_its_other_records_skipped() -> None:
    alias = (5, b"\x04pod1\xc0\x0c")
    assert addresses(answer(3, alias, (1, bytes([10, 214, 0, 5])), (1, bytes([10, 214, 1, 5]))), 3) == ["10.214.0.5", "10.214.1.5"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (answer(3, code=3), "code 3"),
        (answer(4, (1, bytes(4))), "code 0"),
        (answer(3), "no pod is ready"),
        (b"\x00\x03", "unreadable"),
        (answer(3, (1, bytes(4)))[:-9], "unreadable"),
    ],
)
def test_a_dns_answer_without_an_address_is_an_error_with_the_reason(message: bytes, reason: str) -> None:
    with pytest.raises(NoAddress, match=reason):
        addresses(message, 3)


@pytest.mark.parametrize("text", ["8000", "8000=host", "port=host:80", "8000=:80"])
def test_a_malformed_forward_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"PORT=HOST:PORT|invalid literal"):
        Forward.parse(text)


def test_the_text_of_a_forward_can_be_parsed_again() -> None:
    assert str(Forward.parse(f"8265={NAME}:8265")) == f"8265={NAME}:8265"


class Dns(asyncio.DatagramProtocol):
    """A DNS server that answers with one address for every name, or with NXDOMAIN."""

    def __init__(self) -> None:
        self.address: bytes | None = bytes([127, 0, 0, 1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        (number,) = struct.unpack_from(">H", data)
        reply = answer(number, (1, self.address)) if self.address else answer(number, code=3)
        self.transport.sendto(reply, sender)  # type: ignore[attr-defined]


async def in_cluster(check: Callable[[Dns, int, int], Awaitable[None]]) -> None:
    """Run `check(dns, forwarded port, target port)`; a server at the target port answers in capitals once the client has sent all."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, dns = await asyncio.get_running_loop().create_datagram_endpoint(Dns, local_addr=("127.0.0.1", 0))
    forward = Forward(free_port(0), NAME, port)
    listening = await listen(forward, transport.get_extra_info("sockname"))
    async with server, listening:
        await asyncio.wait_for(check(dns, forward.port, port), 20)
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
        dns.address = None
        with pytest.raises(ConnectionError):
            await talk(port)
        dns.address = bytes([127, 0, 0, 1])
        assert await talk(port) == b"HELLO"

    asyncio.run(in_cluster(check))


def test_a_target_that_does_not_listen_resets_the_connection() -> None:
    async def check(dns: Dns, port: int, _target: int) -> None:
        dns.address = bytes([127, 0, 0, 2])  # nothing listens there
        with pytest.raises(ConnectionError):
            await talk(port)

    asyncio.run(in_cluster(check))


def test_an_address_is_resolved_without_dns() -> None:
    assert asyncio.run(resolve("10.213.0.2", ("127.0.0.1", 1))) == "10.213.0.2"


def test_an_unreachable_dns_is_reported_as_such() -> None:
    with pytest.raises(NoAddress, match="no DNS in the cluster"):
        asyncio.run(resolve(NAME, ("127.0.0.1", free_port(0))))
