"""Closed-loop clients: each sends its next request when its last answer is complete."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

WITHIN_S = 1800.0
"""Seconds for one answer, time in a queue of 64 on a slow machine included."""


class NotAnAnswer(Exception):
    """An answer was refused, cut, or has another length than requested; tokens per second would mean nothing."""


@dataclass(frozen=True)
class Job:
    """All requests of one measurement."""

    url: str
    model: str
    prompts: Sequence[str]
    """Prompts, one for each request; the next free client sends the next one."""
    prompt_tokens: int
    answer_tokens: int
    clients: int
    stream: bool = False
    enough: int = 0
    """Number of answers after which the measurement ends and the clients disconnect; 0: as many as there are prompts."""


async def tokens_per_s(job: Job) -> float:
    """Return the tokens of all counted answers, divided by the seconds from the first request to the end of the last counted answer.

    Raises:
        NotAnAnswer: an answer was not as requested.
    """
    left, done = iter(job.prompts), Countdown(job.enough or len(job.prompts))
    # No limit on connections: each client has one.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=WITHIN_S)) as session:
        start = time.perf_counter()
        clients = asyncio.gather(*(_client(session, job, left, done) for _ in range(job.clients)))
        enough = asyncio.ensure_future(done.over.wait())
        try:
            ends: list[asyncio.Future[Any]] = [clients, enough]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            took = time.perf_counter() - start
            if not done.over.is_set():
                await clients  # one of them failed
            return done.of * job.answer_tokens / took
        finally:
            enough.cancel()
            clients.cancel()
            await asyncio.gather(clients, enough, return_exceptions=True)


class Countdown:
    """Counts answers down; the event `over` is set when all have come."""

    def __init__(self, of: int) -> None:
        self.of = self.left = of
        self.over = asyncio.Event()

    def count(self) -> None:
        """Count one complete answer."""
        self.left -= 1
        if not self.left:
            self.over.set()


async def _client(session: aiohttp.ClientSession, job: Job, left: Iterator[str], done: Countdown) -> None:
    for prompt in left:
        await (_streamed if job.stream else _whole)(session, job, prompt)
        done.count()


def _body(job: Job, prompt: str) -> dict[str, object]:
    return {"model": job.model, "prompt": prompt, "max_tokens": job.answer_tokens, "temperature": 0}


async def _whole(session: aiohttp.ClientSession, job: Job, prompt: str) -> None:
    async with session.post(job.url + "/v1/completions", json=_body(job, prompt)) as response:
        if response.status != 200:
            raise NotAnAnswer(f"status {response.status}: {(await response.text())[:300]}")
        check(await response.json(), job)


async def _streamed(session: aiohttp.ClientSession, job: Job, prompt: str) -> None:
    body = {**_body(job, prompt), "stream": True, "stream_options": {"include_usage": True}}
    async with session.post(job.url + "/v1/completions", json=body) as response:
        if response.status != 200:
            raise NotAnAnswer(f"status {response.status}: {(await response.text())[:300]}")
        last = b""
        async for line in response.content:
            # Every event is read. The one before [DONE] has the usage, which shows whether tokens are missing.
            if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                last = line
    check(json.loads(last.removeprefix(b"data: ") or b"{}"), job)


def check(answer: dict[str, object], job: Job) -> None:
    """Return if the usage in the answer, or in the last event of its stream, has the requested numbers of tokens.

    Raises:
        NotAnAnswer: it has other numbers, or there is no usage.
    """
    usage = answer.get("usage")
    found = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else None
    if found != (job.prompt_tokens, job.answer_tokens):
        raise NotAnAnswer(f"{found} tokens of prompt and answer, not {(job.prompt_tokens, job.answer_tokens)}: {str(answer)[:300]}")
