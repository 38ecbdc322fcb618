"""One request of the load over OpenAI's API, from sending to its end.

A short request is a completion that comes as one body; a stream is a chat completion that comes token by token. So both endpoints are under
load. Answers are greedy and have the ids of the tokens beside their text: text could be right by accident.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from serving.load.clock import Clock
from serving.records import Kind, Outcome
from serving.sse import Decoder

BROKEN = (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, ValueError)
"""Errors that a connection or a response can raise. HttpProcessingError and ValueError: a line that is too long."""
PATHS: dict[Kind, str] = {"short": "/v1/completions", "stream": "/v1/chat/completions"}


@dataclass(frozen=True)
class Question:
    """The content of a request."""

    kind: Kind
    url: str
    """URL of the service, without a path."""
    sentence: str
    tokens: int
    model: str = "mistral"

    @property
    def target(self) -> str:
        """URL that the request is sent to."""
        return self.url + PATHS[self.kind]

    @property
    def body(self) -> dict[str, Any]:
        """Body of the request."""
        common = {"model": self.model, "max_tokens": self.tokens, "temperature": 0, "return_token_ids": True}
        if self.kind == "short":
            return {**common, "prompt": self.sentence}
        return {**common, "messages": [{"role": "user", "content": self.sentence}], "stream": True}


@dataclass
class Reply:
    """The response so far; final once `ask` has returned it."""

    status: int | None = None
    tokens: list[int] = field(default_factory=list)
    token_times: list[float] = field(default_factory=list)
    whole: bool = False
    """Whether the answer came to its proper end."""
    hung: bool = False
    """Whether no byte came for longer than the client waits."""
    detail: str = ""
    end: float = 0.0

    def take(self, tokens: list[int], now: float) -> None:
        """Add tokens that came now; tokens that came together have the same time."""
        self.tokens += tokens
        self.token_times += [now] * len(tokens)

    def outcome(self, expected: tuple[int, ...] | None) -> Outcome:
        """Return how the request ended, compared with the answer of a healthy server (None: any answer is right)."""
        if self.whole:
            return "finished" if expected is None or tuple(self.tokens) == expected else "wrong"
        if self.hung:
            return "hung"
        return "cut" if self.tokens else "refused"


async def ask(session: aiohttp.ClientSession, question: Question, clock: Clock) -> Reply:
    """Send the question and read the answer until it ends. Errors of the service are in the reply, not raised."""
    reply = Reply()
    try:
        async with session.post(question.target, json=question.body) as response:
            reply.status = response.status
            if response.status != 200:
                reply.detail = f"HTTP {response.status}: {(await response.text(errors='replace'))[:200]}"
            elif question.kind == "short":
                _read_answer(reply, await response.read(), clock)
            else:
                await _read_stream(reply, response, clock)
    except asyncio.TimeoutError as error:  # before aiohttp.ClientError: aiohttp's timeouts are both
        reply.hung = reply.status in (None, 200)
        reply.detail = reply.detail or f"{type(error).__name__}: {error}"
    except BROKEN as error:
        reply.detail = f"{type(error).__name__}: {error}"
    reply.end = clock.now()
    return reply


def _read_answer(reply: Reply, body: bytes, clock: Clock) -> None:
    """Add an answer that comes as one body."""
    reply.whole = True
    found = _tokens(_json(body))
    if not found:
        reply.detail = f"not an answer: {body[:200]!r}"
    reply.take(found, clock.now())


async def _read_stream(reply: Reply, response: aiohttp.ClientResponse, clock: Clock) -> None:
    """Read a stream event by event, until [DONE], an error, or its end without either."""
    decoder = Decoder()
    async for line in response.content:
        event = decoder.feed(line)
        if event is None:
            continue
        if event.last:
            reply.whole = True
            return
        data = _json(event.data)
        if "error" in data:
            reply.detail = f"error in the stream: {event.data[:200]}"
            return
        reply.take(_tokens(data), clock.now())
    reply.detail = "the stream ended without [DONE]"


def _tokens(data: dict[str, Any]) -> list[int]:
    """Return the token ids of the only choice; if there are none, the answer will count as wrong."""
    try:
        return [int(token) for token in data["choices"][0].get("token_ids") or ()]
    except (LookupError, TypeError, ValueError, AttributeError):
        return []


def _json(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a body or an event; an empty one if the text is something else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
