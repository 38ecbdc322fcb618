"""A stand-in for the service, on loopback: answers like it, and misbehaves on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from serving import sse


class Service:
    """Right answers until told otherwise: `short` and `stream` name what happens to each kind of request."""

    def __init__(self) -> None:
        self.short = "answer"
        self.stream = "answer"
        self.tokens_before = 2
        """Tokens of a stream before it misbehaves."""
        self.asked: list[str] = []
        self.turn = 0
        self.released = asyncio.Event()
        """Ends a stream's "hold"."""
        self._never = asyncio.Event()
        self.url = ""

    async def infer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("short")
        tokens = self._tokens(request)
        if self.short == "stall":
            await self._never.wait()
        if self.short == "busy":
            return web.Response(status=503, text="queue full")
        if self.short == "drop":
            assert request.transport
            request.transport.abort()
        if self.short == "nonsense":
            return web.Response(text="<html>")
        if self.short == "wrong":
            tokens = [9] * len(tokens)
        if self.short == "differ":
            self.turn += 1
            tokens = [self.turn] * len(tokens)
        return web.json_response({"text": "", "tokens": tokens, "finish_reason": "length"})

    async def infer_stream(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("stream")
        tokens = self._tokens(request)
        if self.stream == "busy":
            return web.Response(status=503, text="queue full")
        if self.stream == "wrong":
            tokens = [9] * len(tokens)
        response = web.StreamResponse(headers={"Content-Type": sse.MEDIA_TYPE})
        await response.prepare(request)
        for n, token in enumerate(tokens):
            if self.stream == "hold" and n == self.tokens_before:
                await self.released.wait()
            if self.stream in ("stall", "drop", "error", "end") and n == self.tokens_before:
                return await self._misbehave(request, response)
            await response.write(sse.encode({"token": token, "text": "é"}).encode())
        await response.write(sse.encode({"finish_reason": "length"}).encode())
        await response.write(sse.encode(sse.DONE).encode())
        return response

    async def _misbehave(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if self.stream == "stall":
            await self._never.wait()
        if self.stream == "drop":
            assert request.transport
            request.transport.abort()
        if self.stream == "error":
            await response.write(sse.encode({"error": "boom"}, name="error").encode())
        return response

    def _tokens(self, request: web.Request) -> list[int]:
        return list(range(100, 100 + int(request.query["max_tokens"])))


@asynccontextmanager
async def running() -> AsyncIterator[Service]:
    """A service on a free port of loopback."""
    service = Service()
    app = web.Application()
    app.add_routes([web.get("/infer", service.infer), web.get("/infer/stream", service.infer_stream)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(patience: float = 60.0) -> AsyncIterator[aiohttp.ClientSession]:
    """A session as the load generator makes it."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience, sock_read=patience)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        yield session
