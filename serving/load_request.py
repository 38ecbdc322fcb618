"""One request of the load, from sending to how it ended."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from serving.clock import Clock
from serving.records import Kind, Outcome
from serving.sse import Decoder

PATHS: dict[Kind, str] = {"short": "/infer", "stream": "/infer/stream"}


@dataclass(frozen=True)
class Question:
    """What a request asks."""

    kind: Kind
    url: str
    """The service, without a path."""
    sentence: str
    tokens: int

    @property
    def target(self) -> str:
        """The URL without its parameters."""
        return self.url + PATHS[self.kind]

    @property
    def parameters(self) -> dict[str, str]:
        """The query."""
        return {"sentence": self.sentence, "max_tokens": str(self.tokens)}


@dataclass
class Reply:
    """What came back, so far; complete once `ask` has returned it."""

    status: int | None = None
    tokens: list[int] = field(default_factory=list)
    token_times: list[float] = field(default_factory=list)
    whole: bool = False
    """The answer came to its proper end."""
    hung: bool = False
    """No byte came for longer than the client waits."""
    detail: str = ""
    end: float = 0.0

    def outcome(self, expected: tuple[int, ...] | None) -> Outcome:
        """How the request ended, against the answer of a healthy server (None: any answer is right)."""
        if self.whole:
            return "finished" if expected is None or tuple(self.tokens) == expected else "wrong"
        if self.hung:
            return "hung"
        return "cut" if self.tokens else "refused"


async def ask(session: aiohttp.ClientSession, question: Question, clock: Clock) -> Reply:
    """Send the question and read the answer until it ends in whatever way; never raises for what the service does."""
    reply = Reply()
    try:
        async with session.get(question.target, params=question.parameters) as response:
            reply.status = response.status
            if response.status != 200:
                reply.detail = f"HTTP {response.status}: {(await response.text())[:200]}"
            elif question.kind == "short":
                _read_answer(reply, await response.read(), clock)
            else:
                await _read_stream(reply, response, clock)
    except asyncio.TimeoutError as error:  # before aiohttp.ClientError: its time-outs are both
        reply.hung = reply.status in (None, 200)
        reply.detail = reply.detail or f"{type(error).__name__}: {error}"
    except (aiohttp.ClientError, OSError) as error:
        reply.detail = f"{type(error).__name__}: {error}"
    reply.end = clock.now()
    return reply


def _read_answer(reply: Reply, body: bytes, clock: Clock) -> None:
    """Take a short answer: it comes in one piece, so all its tokens have one time."""
    reply.whole = True
    try:
        reply.tokens = [int(token) for token in json.loads(body)["tokens"]]
    except (ValueError, KeyError, TypeError):
        reply.detail = f"not an answer: {body[:200]!r}"
    reply.token_times = [clock.now()] * len(reply.tokens)


async def _read_stream(reply: Reply, response: aiohttp.ClientResponse, clock: Clock) -> None:
    """Take a stream event by event, until [DONE], an error event, or its end without either."""
    decoder = Decoder()
    async for line in response.content:
        event = decoder.feed(line)
        if event is None:
            continue
        if event.last:
            reply.whole = True
            return
        if event.name == "error":
            reply.detail = f"error event: {event.data[:200]}"
            return
        _take_token(reply, _json(event.data), clock)
    reply.detail = "the stream ended without [DONE]"


def _take_token(reply: Reply, data: dict[str, Any], clock: Clock) -> None:
    if isinstance(data.get("token"), int):
        reply.tokens.append(data["token"])
        reply.token_times.append(clock.now())


def _json(text: str) -> dict[str, Any]:
    """The object in an event; what is not one carries no token, and the answer will be wrong for lack of it."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
