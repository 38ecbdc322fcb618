"""How a response ends is told apart, whatever a server does on the wire; and connections are kept or not."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import virtual_time
from serving_service import client

from drills.load.http import Client
from drills.load.request import send
from drills.load.template import Answer, Ask, Reply

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = Ask("/x", Answer("body"))
LINES = Ask("/x", Answer("lines", text="t"))


@asynccontextmanager
async def raw(serve: Serve) -> AsyncIterator[str]:
    """Serve connections by this function; yields the URL."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def answering(data: bytes, wait: float = 0) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(wait)

    return serve


async def replied(serve: Serve, ask: Ask = GET, patience: float = 60) -> Reply:
    async with raw(serve) as url:
        with client(url, patience) as session:
            return await send(session, ask, "s", 1)


def reply_to(data: bytes, ask: Ask = GET, wait: float = 0) -> Reply:
    return asyncio.run(replied(answering(data, wait), ask))


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (HEAD + b"content-length: 3\r\n\r\nabc", "finished"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "finished"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"content-length: 3\r\n\r\nabc", "finished"),
        (HEAD + b"content-length: 0\r\n\r\n", "finished"),
        (HEAD + b"content-length: 4\r\n\r\nabc", "cut"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "cut"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", "cut"),
        (HEAD + b"\r\nabc", "cut"),
        (HEAD, "refused"),
        (b"", "refused"),
        (b"SSH-2.0-OpenSSH\r\n", "refused"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy", "refused"),
        (b"HTTP/1.1 302 Found\r\nlocation: /y\r\ncontent-length: 0\r\n\r\n", "refused"),
    ],
)
def test_a_body_is_finished_only_when_its_marked_end_has_come(data: bytes, outcome: str) -> None:
    reply = reply_to(data)
    assert reply.outcome("status", True) == outcome
    assert bool(reply.detail) is (outcome != "finished")


def test_a_connection_that_is_closed_without_an_answer_is_named_in_plain_words() -> None:
    assert [reply_to(data).detail for data in (b"", HEAD)] == ["the connection was closed without an answer"] * 2


def test_a_body_without_length_is_named_as_what_cannot_be_judged() -> None:
    assert "no length" in reply_to(HEAD + b"\r\nabc").detail


@pytest.mark.parametrize(
    ("body", "outcome", "text"),
    [
        (b'{"t": "a"}\n{"t": "b"}\n', "finished", "ab"),
        (b'{"t": "a"}\r\n\r\n{"t": "b"}', "finished", "ab"),
        (b'{"u": 1}\n{"t": {"b": 1, "a": 2}}\n', "finished", '{"a": 2, "b": 1}'),
    ],
)
def test_lines_are_read_with_every_kind_of_end(body: bytes, outcome: str, text: str) -> None:
    reply = reply_to(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body, LINES)
    assert (reply.outcome("not-empty", True), "".join(reply.text)) == (outcome, text)


def test_lines_end_where_the_template_says_so_and_are_cut_without_that() -> None:
    ask = Ask("/x", Answer("lines", text="t", end={"done": True}, error="error"))
    for body, outcome in (
        (b'{"t": "a"}\n{"done": true}\n', "finished"),
        (b'{"t": "a"}\n', "cut"),
        (b'{"t": "a"}\n{"error": "x"}\n', "cut"),
    ):
        reply = reply_to(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body, ask)
        assert (reply.outcome("text", "a"), bool(reply.detail)) == (outcome, outcome == "cut")


def test_a_stream_that_says_its_end_need_not_close_its_body() -> None:
    ask = Ask("/x", Answer("sse", text="t", end="[DONE]"))
    reply = reply_to(HEAD + b'\r\ndata: {"t": "a"}\n\ndata: [DONE]\n\n', ask, wait=30)
    assert reply.outcome("text", "a") == "finished"


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"content-length: 4\r\n\r\nabc"])
def test_a_server_that_falls_silent_hangs_the_request(sent: bytes) -> None:
    reply = virtual_time.run(replied(answering(sent, wait=30), patience=3))
    assert (reply.outcome("status", True), reply.hung) == ("hung", True)


def test_bytes_that_keep_coming_are_no_hang_however_long_they_take() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"content-length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(2.9)
            writer.write(b"x")

    assert virtual_time.run(replied(serve, patience=3)).whole


def test_bytes_that_came_while_the_load_stood_still_are_read_before_its_patience_ends() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1)
        writer.write(HEAD + b"content-length: 3\r\n\r\nabc")
        virtual_time.loop().stand_still(4)

    assert virtual_time.run(replied(serve, patience=3)).whole


def kept(keep_alive: bool, requests: int, close: bool = False, pause: float = 0.0) -> tuple[int, list[Reply]]:
    """Send requests one after the other; return the number of connections and the replies."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"content-length: 3\r\n\r\nabc")
            if close:
                return

    async def go() -> list[Reply]:
        async with raw(serve) as url:
            with client(url, keep_alive=keep_alive) as session:
                found = []
                for _ in range(requests):
                    found.append(await send(session, GET, "s", 1))
                    await asyncio.sleep(pause)
                return found

    replies = virtual_time.run(go())
    return connections, replies


def test_every_request_has_a_connection_of_its_own_unless_they_are_kept() -> None:
    for keep_alive, expected in ((False, 4), (True, 1)):
        connections, replies = kept(keep_alive, 4)
        assert connections == expected
        assert all(reply.whole for reply in replies)


def test_a_kept_connection_that_the_server_closed_is_not_used_again() -> None:
    connections, replies = kept(True, 3, close=True, pause=0.2)
    assert (connections, [reply.whole for reply in replies]) == (3, [True] * 3)


def test_kept_connections_are_used_in_turn() -> None:
    used: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            used.append(id(writer))
            await asyncio.sleep(0.05)
            writer.write(HEAD + b"content-length: 3\r\n\r\nabc")

    async def go() -> None:
        async with raw(serve) as url:
            with client(url, keep_alive=True) as session:
                await asyncio.gather(*(send(session, GET, "s", 1) for _ in range(3)))
                for _ in range(6):
                    await send(session, GET, "s", 1)

    virtual_time.run(go())
    assert len(set(used)) == 3
    assert used[3:6] == used[6:9], "one after the other"
    assert len(set(used[3:6])) == 3


def test_a_kept_connection_may_be_used_before_the_request_before_has_noticed_its_end() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"content-length: 3\r\n\r\nabc")

    class Eager(Reply):
        session: Client
        next: asyncio.Future[Reply]

        def data(self, data: bytes, now: float) -> bool:
            self.next = asyncio.ensure_future(send(self.session, GET, "s", 1))  # it runs before the task that waits for this reply
            return super().data(data, now)

    async def go() -> Reply:
        async with raw(serve) as url:
            with client(url, keep_alive=True) as session:
                first = Eager(GET.answer)
                first.session = session
                await session.send("GET", "/x", b"", first)
                return await first.next

    assert virtual_time.run(go()).whole


def test_a_name_that_does_not_resolve_is_a_refused_request() -> None:
    async def go() -> Reply:
        with client("http://no-such-host.invalid:1") as session:
            return await send(session, GET, "s", 1)

    reply = asyncio.run(go())
    assert (reply.outcome("status", True), reply.status, bool(reply.detail)) == ("refused", None, True)


def test_the_sentence_is_quoted_in_the_path_and_the_path_of_the_url_stands_before_it() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD + b"content-length: 0\r\n\r\n")

    async def go() -> None:
        async with raw(serve) as url:
            with client(f"{url}/base/") as session:
                await send(session, Ask("/infer?q=${sentence}&n=${tokens}", Answer("body")), "a&b ü/", 3)

    asyncio.run(go())
    assert seen[0].startswith(b"GET /base/infer?q=a%26b%20%C3%BC%2F&n=3 HTTP/1.1\r\n")


def test_a_connection_for_which_this_side_has_no_room_is_an_error_and_not_a_loss() -> None:
    async def go() -> None:
        with client("http://127.0.0.1:9") as session:
            assert not (await send(session, GET, "s", 1)).whole  # no server is there, which is a loss
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                await send(session, GET, "s", 1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with pytest.raises(OSError, match="Too many open files"):
        asyncio.run(go())
