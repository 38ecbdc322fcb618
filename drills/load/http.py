"""HTTP/1.1 by h11 over asyncio: a client whose every failure is told apart, and the server of the load's own API.

The client stamps the time when bytes arrive and before it looks at them, and it knows a response that was cut from one that has ended.
Nothing is ever sent twice: a request that failed is a result.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import h11

from drills.load.clock import Clock

RESOLVED_FOR_S = 10.0
"""Seconds for which a looked-up address is used."""
IDLE_S = 2.0
"""Seconds after which a kept connection is not used again. Servers close idle ones after five or more; a request that meets the closing
would be lost, and no fault would have caused it."""
GOODBYE_S = 1.0
"""Seconds for the server to close a connection first. Then its side waits for late packets; on this side each wait would hold a port."""
OWN_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})
"""Errors of this side of a connection, which say nothing about the service: such a load must end, not count them as losses."""
MOMENT_S = 0.2
"""Seconds for which a connection that was not made in time is looked at again: if this process stood still, it was made meanwhile."""
READ_S = 30.0
"""Seconds that a client of the load's own API may take for its request."""


class Broken(Exception):
    """The connection or the response broke off, or was no HTTP/1.1."""


class Hung(Exception):
    """No byte arrived for longer than the client waits."""


class Reader(Protocol):
    """What takes a response as it arrives."""

    def head(self, status: int, *, marked: bool) -> None:
        """Take the status. `marked`: the body has a length or is chunked, so that its end is known from a cut."""

    def data(self, data: bytes, now: float) -> bool:
        """Take a piece of the body; return whether the answer is complete, whatever follows."""


class Connection(asyncio.Protocol):
    """One connection, and the request that is on it."""

    def __init__(self, client: Client) -> None:
        self._client, self._loop = client, asyncio.get_running_loop()
        self._http = h11.Connection(h11.CLIENT)
        self._reader: Reader | None = None
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._ended = False
        """Whether the last response came to its end."""
        self.used_at = 0.0
        """Time of the loop when the last byte arrived or the request was sent."""

    async def exchange(self, request: h11.Request, body: bytes, reader: Reader) -> None:
        """Send the request and give the response to the reader until it is complete.

        Raises:
            Broken, Hung: it did not come to its end.
        """
        assert self._transport is not None, "it is connected"
        self._reader, self._done, self.used_at = reader, self._loop.create_future(), self._loop.time()
        self._ended = False
        sent = [self._http.send(request), self._http.send(h11.Data(data=body)) if body else b"", self._http.send(h11.EndOfMessage())]
        if not self._transport.is_closing():
            self._transport.write(b"".join(part for part in sent if part))
            self._timer = self._loop.call_later(self._client.patience_s, self._look_at_time)
        else:
            self._fail(Broken("the kept connection was closed"))
        try:
            await self._done
        finally:
            if self._reader is reader:  # else the connection was kept, and the next request is on it already
                self._reader = None
                if not self._ended:
                    self._leave()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, which asyncio has connected."""
        assert isinstance(transport, asyncio.Transport), "TCP and TLS have both directions"
        self._transport = transport
        self._client.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes, all with the time at which they arrived. They are read a moment later: those of other connections that have arrived
        as well have their times first."""
        now, self.used_at = self._client.clock.now(), self._loop.time()
        self._loop.call_soon(self._take, data, now)

    def eof_received(self) -> None:
        """Take the end of the connection, which may be the proper end of a body without a length."""
        self._loop.call_soon(self._take, b"", self._client.clock.now())

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that is on the connection, if there is one."""
        self._fail(Broken(_words(exc) if exc else "the connection was closed"))
        self._stop_timer()
        self._client.open.discard(self)

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        fresh = self._loop.time() - self.used_at < IDLE_S
        return fresh and self._transport is not None and not self._transport.is_closing()

    def _take(self, data: bytes, now: float) -> None:
        unanswered = not data and self._http.their_state is h11.SEND_RESPONSE
        try:
            self._http.receive_data(data)
            while isinstance(event := self._http.next_event(), h11.Event):  # else it needs more data
                if isinstance(event, h11.Data) and self._reader is not None:
                    if self._reader.data(bytes(event.data), now):
                        self._succeed()
                elif isinstance(event, h11.Response) and self._reader is not None:
                    names = {name for name, _ in event.headers}
                    self._reader.head(event.status_code, marked=bool(names & {b"content-length", b"transfer-encoding"}))
                elif isinstance(event, h11.EndOfMessage):
                    self._end()
                    break
                elif isinstance(event, h11.ConnectionClosed):
                    break
        except (h11.RemoteProtocolError, ValueError) as error:  # ValueError: the reader refuses what came
            self._fail(Broken("the connection was closed without an answer" if unanswered else str(error)))
            self.close()

    def _end(self) -> None:
        self._ended = True
        self._succeed()
        self._stop_timer()
        if self._client.keep_alive and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._client.kept.append(self)
        else:
            self._leave()

    def _leave(self) -> None:
        """Close the connection after the server did, or a little later."""
        self._stop_timer()
        self._timer = self._loop.call_later(GOODBYE_S, self.close)

    def _look_at_time(self, used_at: float | None = None) -> None:
        """Fail a request without a byte for the client's patience; `used_at`: as it was at the look before.

        Only the second look fails it. If this process stood still, the first one comes before the bytes are read that arrived meanwhile;
        the loop reads them before the second one.
        """
        left = self.used_at + self._client.patience_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_at_time)
        elif used_at != self.used_at:
            self._timer = self._loop.call_later(0, self._look_at_time, self.used_at)
        else:
            self._fail(Hung(f"no byte for {self._client.patience_s:g} s"))
            self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _succeed(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


class Client:
    """A client of one service."""

    def __init__(self, url: str, clock: Clock, patience_s: float, *, keep_alive: bool = False, headers: Mapping[str, str] | None = None):
        """Create a client; nothing is connected yet.

        By default every request has a new connection, for which the Service in front of the workers chooses one of them.
        `keep_alive`: connections are kept, as gateways do, and used in turn.

        Raises:
            ValueError: the URL has no host, or is neither http nor https.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not a URL of a service: {url!r}")
        self.clock, self.patience_s, self.keep_alive = clock, patience_s, keep_alive
        self._base = parts.path.rstrip("/")
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._headers = [("Host", parts.netloc.rpartition("@")[2]), ("User-Agent", "leeward-load"), ("Accept", "*/*")]
        self._headers += [*(headers or {}).items()] if keep_alive else [*(headers or {}).items(), ("Connection", "close")]
        self.open: set[Connection] = set()
        self.kept: deque[Connection] = deque()
        """Open connections without a request, to be used in turn."""
        self._resolved: asyncio.Future[list[Any]] | None = None
        self._resolved_at = 0.0
        self._turn = itertools.count()

    async def send(self, method: str, path: str, body: bytes, reader: Reader) -> None:
        """Send one request, with JSON as its body if that is not empty, and give the response to the reader until it is complete.

        Raises:
            Broken: the service could not be connected to, or its response broke off.
            Hung: no byte arrived for longer than the client waits.
            OSError: this side has no room for another connection.
        """
        headers = [*self._headers, *([("Content-Type", "application/json"), ("Content-Length", str(len(body)))] if body else [])]
        request = h11.Request(method=method, target=self._base + path, headers=headers)
        connection = self._from_kept() or await self._connect()
        await connection.exchange(request, body, reader)

    def close(self) -> None:
        """Close all connections; requests that are on them fail."""
        for connection in self.open:
            connection.close()

    def _from_kept(self) -> Connection | None:
        """Return the kept connection that was unused for longest, so that all are used in turn; None when there is none."""
        while self.kept:
            connection = self.kept.popleft()
            if connection.usable:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        connecting = asyncio.ensure_future(self._connect_to_one())
        try:
            await asyncio.wait({connecting}, timeout=self.patience_s)
            if not connecting.done():
                await asyncio.wait({connecting}, timeout=MOMENT_S)
            if not connecting.done():
                raise Hung(f"no connection within {self.patience_s:g} s")
            return connecting.result()
        except OSError as error:
            if error.errno in OWN_SHORTAGE:
                raise
            raise Broken(_words(error)) from error
        finally:
            connecting.cancel()

    async def _connect_to_one(self) -> Connection:
        """Connect to one of the service's addresses, each of which is the first one in turn."""
        loop, found = asyncio.get_running_loop(), await self._addresses()
        first, failed = next(self._turn), OSError("no address")
        for n in range(len(found)):
            address = found[(first + n) % len(found)]
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(self),
                    address,
                    self._port,
                    ssl=self._tls or None,
                    server_hostname=self._host if self._tls else None,
                )
            except OSError as error:
                failed = error
            else:
                return connection
        raise failed

    async def _addresses(self) -> list[str]:
        """Return the service's addresses, looked up every RESOLVED_FOR_S and once for all requests that wait for them."""
        loop, asked = asyncio.get_running_loop(), self._resolved
        if asked is None or (asked.done() and (loop.time() - self._resolved_at > RESOLVED_FOR_S or asked.exception() is not None)):
            asked = self._resolved = asyncio.ensure_future(loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM))
            self._resolved_at = loop.time()
        return list(dict.fromkeys(str(address[0]) for *_, address in await asyncio.shield(asked)))


Answer = tuple[int, str, bytes]
"""Status, media type and body of a response of the load's own API."""


async def serve(handle: Callable[[str, str], Answer], port: int) -> asyncio.Server:
    """Serve HTTP on all addresses; `handle` is called with method and target, and each connection has one request."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        try:
            request = await asyncio.wait_for(_request(http, reader), READ_S)
            status, media_type, body = handle(request.method.decode(), request.target.decode())
            headers = [("Content-Type", media_type), ("Content-Length", str(len(body))), ("Connection", "close")]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                writer.write(http.send(event) or b"")
            await writer.drain()
        except (asyncio.TimeoutError, OSError, h11.ProtocolError):
            pass  # the client's affair: it left, or does not speak HTTP
        finally:
            writer.close()

    return await asyncio.start_server(on_connection, "0.0.0.0", port)


async def _request(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    """Read a request to its end; its body is of no interest."""
    request: h11.Request | None = None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(2**16))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return request
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
