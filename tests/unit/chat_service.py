"""A stand-in for the service, and the chat in front of it: real servers on loopback.

The last message of a request selects the answer, so that a test in a browser can get any of these:

    words N     N words, one after the other
    hold        one word, then nothing for as long as the client stays
    break N     N words, then the connection is cut
    cease N     N words, then an end without a reason
    fail N      N words, then an error event
    long        refused as too long while more than three messages come
    unlucky N   as long; then the service fails N times, then five words
    endless     refused as too long
    later N     refused N times as not ready, then answered with five words
    unready     refused as not ready until `ready` is true
    script      markup that would run a script
    broken N    the connection is cut N times before the first word, then answered with five words
    busy, refuse, late, crash, key, model
                refused, in the way of 429, 400, 504, 500, 401 and 404
    else        five words
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from aiohttp import web

NOISE = ("krell", "ombra", "été", "東京", "wist", "🙂", "tarn", "vole")
REFUSALS = {
    "busy": (429, "the queue is full", "rate_limit_exceeded"),
    "refuse": (400, "temperature must be at most 2", None),
    "late": (504, "not whole within 120 s", "deadline_exceeded"),
    "crash": (500, "the engine failed", None),
    "key": (401, "Incorrect API key provided: it-is-secret", "invalid_api_key"),
    "model": (404, "there is no model 'mistral'", "model_not_found"),
}


def words(count: int) -> str:
    """Return the stand-in's answer with this number of words."""
    return " ".join(NOISE[at % len(NOISE)] for at in range(count))


class StandIn:
    """The server side of OpenAI's API, as far as the chat uses it."""

    def __init__(self, pace_s: float = 0.02) -> None:
        self.pace_s = pace_s
        """Seconds between two words of an answer."""
        self.description = ""
        self.longest = 0
        self.requests: list[dict[str, Any]] = []
        """Bodies of the requests, in order of arrival."""
        self.keys: list[str] = []
        """Authorization headers of the requests."""
        self.live = 0
        """Number of answers under way."""
        self.left = 0
        """Number of answers that ended because the client disconnected."""
        self.foreign: tuple[str, bytes] | None = None
        """Content type and body of every answer, to imitate another server; None: answer as the service."""
        self.ready = False
        self.rest = asyncio.Event()
        """Event that releases the second half of "halves"."""
        self._turned_away = 0

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Serve it, and yield its address."""
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        if self.foreign:
            return web.Response(content_type=self.foreign[0], body=self.foreign[1])
        entry = {"id": "mistral", "object": "model", "created": 1, "owned_by": "leeward"}
        said = {"description": self.description, "max_completion_tokens": self.longest}
        return web.json_response({"object": "list", "data": [entry | {name: value for name, value in said.items() if value}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        what, _, number = str(body["messages"][-1]["content"]).partition(" ")
        count = int(number) if number.isdigit() else 5
        if refusal := self._refusal(what, count, len(body["messages"])):
            return refusal
        if self.foreign:
            return web.Response(content_type=self.foreign[0], body=self.foreign[1])
        self.live += 1
        try:
            return await self._stream(request, what, count, body["max_tokens"])
        except (ConnectionError, asyncio.CancelledError):
            self.left += 1
            raise
        finally:
            self.live -= 1

    def _refusal(self, what: str, count: int, length: int) -> web.Response | None:
        if what == "unready" and not self.ready:
            return _error(503, "the engine is starting", "not_ready")
        if what == "later" and self._turned_away < count:
            self._turned_away += 1
            return _error(503, "the engine is starting", "not_ready", {"Retry-After": "0.2"})
        if what == "endless" or (what in ("long", "unlucky") and length > 3):
            return _error(400, "3000 tokens; 2048 are allowed", "context_length_exceeded")
        if what == "unlucky" and self._turned_away < count:
            self._turned_away += 1
            return _error(*REFUSALS["crash"])
        return _error(*REFUSALS[what]) if what in REFUSALS else None

    async def _stream(self, request: web.Request, what: str, count: int, most: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_chunk({"role": "assistant", "content": ""}))
        if what == "broken" and self._turned_away < count:
            self._turned_away += 1
            what, count = "break", 0
        if what == "script":
            await response.write(_chunk({"content": "before <img src=x onerror='window.run=1'><script>window.run=1</script> "}))
        count = 1 if what == "hold" else 5 if what in ("later", "broken", "unlucky") else min(count, most)
        for at in range(count):
            if what == "halves" and at == count // 2:
                await self.rest.wait()
            await response.write(_chunk({"content": " " * (at > 0) + NOISE[at % len(NOISE)]}))
            await asyncio.sleep(self.pace_s)
        if what == "hold":
            await asyncio.Event().wait()
        elif what == "break":
            assert request.transport
            request.transport.abort()
        elif what == "fail":
            await response.write(b'data: {"error": {"message": "the engine failed", "type": "server_error", "code": null}}\n\n')
        elif what != "cease":
            await response.write(_chunk({}, "length" if count == most else "stop") + b"data: [DONE]\n\n")
        return response


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mistral", "choices": [choice]}
    return f"data: {json.dumps(data)}\n\n".encode()


def _error(status: int, message: str, code: str | None, headers: dict[str, str] | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


@contextmanager
def chat(url: str, patience_s: float = 60.0) -> Iterator[str]:
    """Serve the chat in front of a service at `url`, and yield the chat's address."""
    from serving.chat.page import application
    from serving.chat.service import Address, Service

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # a client that connects before the server is up waits here
        service = Service(Address(url), patience_s)
        # A factory, as in serving/chat/__main__.py.
        config = uvicorn.Config(lambda: application(service), factory=True, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
