"""TCP from loopback into the cluster: `python -m scripts.installed.forward 8000=mistral-serve-svc.mistral.svc.cluster.local:8000 …`.

The cloud's addresses are routed on the host, but a browser on another machine reaches only what a tunnel to this machine's
loopback reaches. The cluster's own DNS resolves the name at every connection, so a service that was deployed again at another
address is found.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

from dns.asyncresolver import Resolver
from dns.exception import DNSException

from scripts.services.services import Forward

CLUSTER_DNS = ("172.20.0.10", 53)
"""Address and port of the DNS of every EKS cluster with this service network."""
TIMEOUT_S = 5.0
"""Seconds to wait for a DNS answer or a connection."""


class NoAddress(OSError):
    """The cluster's DNS has no address for the name; the text has the reason."""


async def resolve(name: str, server: tuple[str, int] = CLUSTER_DNS) -> str:
    """Resolve `name` to an address. Raises NoAddress, also when no answer comes in time."""
    resolver = Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = [server[0]], server[1], TIMEOUT_S
    try:
        return str((await resolver.resolve(f"{name}.", "A"))[0])
    except DNSException as error:
        raise NoAddress(f"no address from the cluster's DNS: {error}") from error


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
