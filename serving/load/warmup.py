"""The warm-up of a load: waits until the service answers, and learns the right answers and the duration of a stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from serving.load.clock import Clock
from serving.load.request import Question, Reply, ask
from serving.records import Kind

ASKED = 4
"""Requests sent at the same time for each question: enough to reach both replicas almost certainly."""


class WarmUpFailed(Exception):
    """The service did not give right answers in time; the message has the last reason."""


@dataclass(frozen=True)
class Learned:
    """The answers of a healthy server."""

    answers: dict[Kind, tuple[int, ...]]
    """The tokens of the answer to each kind of question."""
    seconds: dict[Kind, float]
    """Duration of the fastest answer of each kind, from sending to its end."""


async def learn(session: aiohttp.ClientSession, questions: list[Question], clock: Clock, within_s: float, pause_s: float = 1.0) -> Learned:
    """Send every question several times, again and again, until all answers to each are complete and equal.

    Raises:
        WarmUpFailed: that did not happen within the time.
    """
    deadline, reason = clock.now() + within_s, "nothing was asked"
    while clock.now() < deadline:
        began = clock.now()
        asked = [question for question in questions for _ in range(ASKED)]
        replies = await asyncio.gather(*(ask(session, question, clock) for question in asked))
        reason = next(filter(None, map(_fault, asked, replies)), "") or _disagreement(asked, replies)
        if not reason:
            return _learned(asked, replies, began)
        print(f"load: not warm yet: {reason}", flush=True)
        await asyncio.sleep(min(pause_s, max(0.0, deadline - clock.now())))
    raise WarmUpFailed(f"no right answers within {within_s:.0f} s: {reason}")


def _fault(question: Question, reply: Reply) -> str:
    """Return why a reply cannot be that of a healthy server; empty if it can."""
    if not reply.whole:
        return f"{question.kind}: {reply.outcome(None)}, {reply.detail or 'no detail'}"
    if len(reply.tokens) != question.tokens:
        return f"{question.kind}: {len(reply.tokens)} tokens instead of {question.tokens} {reply.detail}; ask for fewer or another sentence"
    return ""


def _disagreement(asked: list[Question], replies: list[Reply]) -> str:
    """Return that a question got different answers, if it did: a wrong answer could not be recognised then."""
    for kind in {question.kind for question in asked}:
        if len({tuple(r.tokens) for q, r in zip(asked, replies, strict=True) if q.kind == kind}) > 1:
            return f"{kind}: different answers to one question; replicas must run one image and decode greedily"
    return ""


def _learned(asked: list[Question], replies: list[Reply], began: float) -> Learned:
    answers: dict[Kind, tuple[int, ...]] = {q.kind: tuple(r.tokens) for q, r in zip(asked, replies, strict=True)}
    seconds = {kind: min(r.end - began for q, r in zip(asked, replies, strict=True) if q.kind == kind) for kind in answers}
    return Learned(answers, seconds)
