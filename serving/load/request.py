"""One request of the load, from sending to how it ended, over OpenAI's API.

A short request is a completion that comes whole, a stream a chat completion that comes token by token, so that both ways in
are under load. Greedy, and with the ids of the tokens beside their text: text can be right by accident.
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
"""What a connection, or what comes over it, may do: the second and the last is a line without an end."""
PATHS: dict[Kind, str] = {"short": "/v1/completions", "stream": "/v1/chat/completions"}


@dataclass(frozen=True)
class Question:
    """What a request asks."""

    kind: Kind
    url: str
    """The service, without a path."""
    sentence: str
    tokens: int
    model: str = "mistral"

    @property
    def target(self) -> str:
        """Where it is sent to."""
        return self.url + PATHS[self.kind]

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        common = {"model": self.model, "max_tokens": self.tokens, "temperature": 0, "return_token_ids": True}
        if self.kind == "short":
            return {**common, "prompt": self.sentence}
        return {**common, "messages": [{"role": "user", "content": self.sentence}], "stream": True}


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

    def take(self, tokens: list[int], now: float) -> None:
        """These tokens came now; those that came in one piece have one time."""
        self.tokens += tokens
        self.token_times += [now] * len(tokens)

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
        async with session.post(question.target, json=question.body) as response:
            reply.status = response.status
            if response.status != 200:
                reply.detail = f"HTTP {response.status}: {(await response.text(errors='replace'))[:200]}"
            elif question.kind == "short":
                _read_answer(reply, await response.read(), clock)
            else:
                await _read_stream(reply, response, clock)
    except asyncio.TimeoutError as error:  # before aiohttp.ClientError: its time-outs are both
        reply.hung = reply.status in (None, 200)
        reply.detail = reply.detail or f"{type(error).__name__}: {error}"
    except BROKEN as error:
        reply.detail = f"{type(error).__name__}: {error}"
    reply.end = clock.now()
    return reply


def _read_answer(reply: Reply, body: bytes, clock: Clock) -> None:
    """Take an answer that comes whole."""
    reply.whole = True
    found = _tokens(_json(body))
    if not found:
        reply.detail = f"not an answer: {body[:200]!r}"
    reply.take(found, clock.now())


async def _read_stream(reply: Reply, response: aiohttp.ClientResponse, clock: Clock) -> None:
    """Take a stream event by event, until [DONE], an error, or its end without either."""
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
    """The token ids of the one choice; none where there are none, and the answer will be wrong for lack of them."""
    try:
        return [int(token) for token in data["choices"][0].get("token_ids") or ()]
    except (LookupError, TypeError, ValueError, AttributeError):
        return []


def _json(text: str | bytes) -> dict[str, Any]:
    """The object in a body or an event; empty for what is not one."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
