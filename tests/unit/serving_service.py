"""A stand-in for the service's OpenAI API on loopback: it answers like the service, and fails on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import virtual_time
from aiohttp import web

from drills.load.http import Client
from drills.request import Template
from serving import sse

TEMPLATE = Template.of("leeward").as_sent()
"""The requests of a drill of our own service."""


class Service:
    """A service with right answers by default; `short` and `stream` name what happens to each kind of request."""

    def __init__(self) -> None:
        self.short = "answer"
        self.stream = "answer"
        self.tokens_before = 2
        """Tokens of a stream before its failure."""
        self.piece = 1
        """Tokens of a stream that come in one event."""
        self.pause_s = 0.01
        """Seconds before every event of a stream. In virtual time nothing else takes time, and a load sends the more streams, the shorter
        they are."""
        self.time_out_s = 0.0
        """Seconds after which the stream "times-out" is ended."""
        self.asked: list[str] = []
        """Kinds of the received requests, in order."""
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.turn = 0
        self.released = asyncio.Event()
        """Event that ends the "hold" of a stream."""
        self._never = asyncio.Event()
        self.url = ""

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """Return a complete answer."""
        asked = await self._take("short", request)
        tokens = _tokens(asked)
        if self.short == "stall":
            await self._never.wait()
        if self.short == "busy":
            return _busy()
        if self.short == "drop":
            assert request.transport
            request.transport.abort()
        if self.short == "mojibake":
            return web.Response(status=502, body=b"l\xe0-bas", content_type="text/html")
        if self.short == "error":
            return web.json_response({"error": {"message": "a part is missing", "type": "server_error"}})
        if self.short == "nonsense":
            return web.Response(text="<html>")
        if self.short == "wrong":
            tokens = [9] * len(tokens)
        if self.short == "differ":
            self.turn += 1
            tokens = [self.turn] * len(tokens)
        return web.json_response({"choices": [{"index": 0, "text": "é", "token_ids": tokens, "finish_reason": "length"}]})

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        """Send a stream: the role, `piece` tokens per event, the finish reason, the usage, the end."""
        asked = await self._take("stream", request)
        tokens = _tokens(asked)
        if self.stream == "busy":
            return _busy()
        if self.stream == "wrong":
            tokens = [9] * len(tokens)
        if self.stream == "twice":
            tokens = tokens + tokens
        if self.stream == "short":
            tokens = tokens[: self.tokens_before]
        began = asyncio.get_running_loop().time()
        response = web.StreamResponse(headers={"Content-Type": sse.MEDIA_TYPE})
        await response.prepare(request)
        await response.write(_chunk({"role": "assistant", "content": ""}))
        for n in range(0, len(tokens), self.piece):
            if self.stream == "hold" and n == self.tokens_before:
                await self.released.wait()
            if self.stream in ("stall", "drop", "error", "end", "flood") and n == self.tokens_before:
                return await self._misbehave(request, response)
            await asyncio.sleep(self.pause_s)
            if self.stream == "times-out" and asyncio.get_running_loop().time() - began > self.time_out_s:
                return await self._misbehave(request, response)
            await response.write(_chunk({"content": "é"}, token_ids=tokens[n : n + self.piece]))
        if self.stream == "end":
            return response
        await response.write(_chunk({}, token_ids=[], finish_reason="length"))
        await response.write(sse.encode({"choices": [], "usage": {"completion_tokens": len(tokens)}}).encode())
        await response.write(sse.encode(sse.DONE).encode())
        return response

    async def _take(self, kind: str, request: web.Request) -> dict[str, Any]:
        self.asked.append(kind)
        self.keys.append(request.headers.get("Authorization"))
        self.bodies.append(await request.json())
        return self.bodies[-1]

    async def _misbehave(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if self.stream == "stall":
            await self._never.wait()
        if self.stream in ("drop", "times-out"):
            assert request.transport
            request.transport.abort()
        if self.stream == "flood":
            await response.write(b"data: " + b"x" * 2**20)
        if self.stream == "error":
            await response.write(sse.encode({"error": {"message": "boom", "type": "server_error"}}).encode())
        return response


def _tokens(asked: dict[str, Any]) -> list[int]:
    return list(range(100, 100 + asked["max_tokens"])) if asked.get("return_token_ids") else []


def _busy() -> web.Response:
    return web.json_response({"error": {"message": "queue full", "type": "rate_limit_error"}}, status=429)


def _chunk(delta: dict[str, str], **more: Any) -> bytes:
    return sse.encode({"choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}).encode()


@asynccontextmanager
async def running() -> AsyncIterator[Service]:
    """Run a service on a free port of loopback."""
    service = Service()
    app = web.Application()
    app.add_routes([web.post("/v1/completions", service.completions), web.post("/v1/chat/completions", service.chat_completions)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()


@contextmanager
def client(service: Service | str, patience: float = 60.0, *, keep_alive: bool = False) -> Iterator[Client]:
    """Make a client as the load generator does."""
    url = service if isinstance(service, str) else service.url
    made = Client(url, virtual_time.clock(), patience, keep_alive=keep_alive)
    try:
        yield made
    finally:
        made.close()
