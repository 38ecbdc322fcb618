"""A scripted text engine, and the API over it: a real server on a free port of loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import uvicorn

from serving import api
from serving.engines.contract import EngineClient, EngineError, Limits, Piece, Request
from serving.settings import Settings
from serving.tokenizer import Tokenizer

LIMITS = Limits(slots=4, positions=200, max_prompt=150, vocabulary=32768)
SETTINGS = Settings(max_tokens=100, deadline_s=30.0, model_name="mistral")
WORDS = "Grüße, 酒 and 👩‍👩‍👧 for all: one two three."
DEADLINE_S = 60.0
"""Seconds to wait at most for what takes milliseconds."""


@cache
def tokenizer() -> Tokenizer:
    """Return Mistral's tokenizer, loaded once."""
    return Tokenizer()


def tokens_of(text: str) -> list[int]:
    """Return the tokens of an answer with this text."""
    return tokenizer().completion(text)[1:]


class StandIn:
    """Answers every request with the same tokens; `together` of them in a piece.

    It raises `error` after `fails_after` tokens; after `holds_after` tokens it waits for `released`.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Return to the initial state."""
        self.tokens = tokens_of(WORDS)
        self.together = 1
        self.error: Exception | None = None
        self.fails_after = 0
        self.holds_after: int | None = None
        self.released = threading.Event()
        self.down: Exception | None = None
        """Error that `ready` raises."""
        self.requests: list[Request] = []
        self.live = 0
        self.limits = LIMITS

    async def ready(self) -> Limits:
        if self.down:
            raise self.down
        return self.limits

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        self.requests.append(request)
        self.live += 1
        try:
            async for piece in self._pieces(request):
                yield piece
        finally:
            self.live -= 1

    async def _pieces(self, request: Request) -> AsyncIterator[Piece]:
        """Yield pieces; the last token and the end come in one piece if the length ends the answer, as from a real engine."""
        wanted = self.tokens[: request.max_tokens]
        for at in range(0, len(wanted), self.together):
            await self._moment(at)
            piece = Piece(tuple(wanted[at : at + self.together]))
            cut = at + self.together >= len(wanted) == request.max_tokens
            yield replace(piece, finish="length") if cut else piece
            if cut:
                return
        await self._moment(len(wanted))
        yield Piece((), "stop")

    async def _moment(self, given: int) -> None:
        await asyncio.sleep(0)
        if self.holds_after is not None and given >= self.holds_after:
            while not self.released.is_set():
                await asyncio.sleep(0.005)
        if self.error and given >= self.fails_after:
            raise self.error

    def fail(self, error: EngineError | Exception, after: int = 0) -> None:
        self.error, self.fails_after = error, after


@dataclass(frozen=True)
class Service:
    """Address of the API."""

    url: str

    @property
    def v1(self) -> str:
        return self.url + "/v1"


@contextmanager
def served(engine: EngineClient, settings: Settings = SETTINGS) -> Iterator[Service]:
    """Serve the API over this engine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = server_of(engine, settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            yield Service(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)


def server_of(engine: EngineClient, settings: Settings = SETTINGS) -> uvicorn.Server:
    """Return the server, not yet running."""
    app = api.build_app(engine, tokenizer(), settings)
    return uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail if it never does."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
