"""A client that shows what really arrives: statuses, events, and streams that end early."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from deployed import KEY, WITHIN_S

URL = "http://127.0.0.1:8000"
T = TypeVar("T")


@dataclass
class Stream:
    """The part of a stream that has come so far."""

    tokens: list[int] = field(default_factory=list)
    error: dict[str, Any] | None = None
    done: bool = False
    finish: str | None = None


def body(prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
    """Return a request for the likeliest answer, with its token ids."""
    return {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "return_token_ids": True, **more}


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Open a client with a separate connection for each request."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=URL, headers=headers, limits=limits, timeout=WITHIN_S, trust_env=False) as http:
        yield http


async def whole(http: httpx.AsyncClient, prompt: str, tokens: int) -> httpx.Response:
    """Return the answer without streaming, whatever its status."""
    return await http.post("/v1/completions", json=body(prompt, tokens))


async def stream(http: httpx.AsyncClient, prompt: str, tokens: int, into: Stream | None = None) -> Stream:
    """Read the answer as a stream to its end.

    Raises:
        httpx.HTTPError: the connection broke, or it is no stream.
    """
    got = into or Stream()
    async with http.stream("POST", "/v1/completions", json=body(prompt, tokens, stream=True)) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                _take(got, line[6:])
    return got


def _take(got: Stream, data: str) -> None:
    if data == "[DONE]":
        got.done = True
        return
    event = json.loads(data)
    got.error = event.get("error")
    for choice in event.get("choices", ()):
        got.tokens += choice["token_ids"] or []
        got.finish = choice["finish_reason"] or got.finish


def ids(response: httpx.Response) -> list[int]:
    """Return the tokens of a complete answer."""
    assert response.status_code == 200, response.text
    found: list[int] = response.json()["choices"][0]["token_ids"]
    return found


@asynccontextmanager
async def running(jobs: Sequence[Coroutine[Any, Any, T]]) -> AsyncIterator[list[asyncio.Task[T]]]:
    """Send all requests at once; requests without an answer are cancelled when the context is left."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def begun(streams: Sequence[Stream]) -> None:
    """Wait until each stream has a token; fail if one has none in time."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_begun(streams), WITHIN_S)
    assert all(got.tokens for got in streams)


async def _begun(streams: Sequence[Stream]) -> None:
    while not all(got.tokens for got in streams):
        await asyncio.sleep(0.05)
