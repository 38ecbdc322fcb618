"""The warm-up of a load: waits until the service answers, and learns which answers are right and how long a stream lasts.

What can be compared is learnt, because not every service answers twice the same: vLLM's greedy answers depend on what else is in the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drills.load.http import Client
from drills.load.request import send
from drills.load.template import CHECKS, STRICT, Check, Reply, Template
from drills.records import Kind

ASKED = 4
"""Requests sent at the same time for each question: enough to reach both replicas almost certainly."""
MOST_AT_ONCE = 32
"""Requests at once at most, to see whether answers depend on how many there are."""


class WarmUpFailed(Exception):
    """The service did not give right answers in time; the message has the last reason."""


@dataclass(frozen=True)
class Question:
    """A request that is asked again and again."""

    kind: Kind
    sentence: str
    tokens: int


@dataclass(frozen=True)
class Learned:
    """The answers of a healthy server."""

    checks: dict[Kind, Check]
    answers: dict[tuple[Kind, str], tuple[Any, int]]
    """Kind and sentence → what is compared, and the number of tokens."""
    seconds: dict[Kind, float]
    """Duration of the fastest answer of each kind, from sending to its end."""

    def expected(self, kind: Kind, sentence: str) -> tuple[Any, int]:
        """Return what the answer is compared with, and its number of tokens; 0 where it is not known."""
        return self.answers[kind, sentence] if self.checks[kind] in STRICT else (True, 0)


async def learn(
    client: Client, template: Template, tokens: dict[Kind, int], streams: int, within_s: float, pause_s: float = 1.0
) -> Learned:
    """Ask everything several times, again and again, until all answers are complete and pass one check.

    Args:
        tokens: Tokens of an answer, for each kind that the load will send.
        streams: Streams that the load keeps alive: as many are asked at once before answers count as equal.

    Raises:
        WarmUpFailed: that did not happen within the time.
    """
    clock = client.clock
    deadline, reason = clock.now() + within_s, "nothing was asked"
    questions = [Question(kind, sentence, n) for kind, n in tokens.items() for sentence in template.sentences]
    while clock.now() < deadline:
        try:
            return await _learn_once(client, template, questions, min(max(streams, ASKED), MOST_AT_ONCE))
        except WarmUpFailed as error:
            reason = str(error)
        print(f"load: not warm yet: {reason}", flush=True)
        await asyncio.sleep(min(pause_s, max(0.0, deadline - clock.now())))
    raise WarmUpFailed(f"no right answers within {within_s:.0f} s: {reason}")


async def _learn_once(client: Client, template: Template, questions: Sequence[Question], at_once: int) -> Learned:
    """Ask every question; raise WarmUpFailed when an answer is not complete, or does not pass the template's own check."""
    began = client.clock.now()
    asked = [question for question in questions for _ in range(ASKED)]
    replies = await _ask(client, template, asked)
    kinds = list(dict.fromkeys(q.kind for q in questions))
    seconds = {kind: min(r.end - began for q, r in zip(asked, replies, strict=True) if q.kind == kind) for kind in kinds}
    if template.check is None and any(check in STRICT for check in _checks(kinds, asked, replies).values()):
        # Alone, and in a fuller batch than before: only an answer that is the same in both can be compared.
        for more in ([questions[0]], questions[-1:], [questions[n % len(questions)] for n in range(at_once)]):
            asked, replies = [*asked, *more], [*replies, *await _ask(client, template, more)]
    checks = _checks(kinds, asked, replies) if template.check is None else dict.fromkeys(kinds, template.check)
    for kind, check in checks.items():
        if reason := _unstable(kind, check, asked, replies):
            raise WarmUpFailed(reason)
    answers = {(q.kind, q.sentence): (r.seen(checks[q.kind]), len(r.token_times)) for q, r in zip(asked, replies, strict=True)}
    return Learned(checks, answers, seconds)


async def _ask(client: Client, template: Template, questions: Sequence[Question]) -> list[Reply]:
    """Ask these questions at once; raise WarmUpFailed when an answer is not complete."""
    replies = await asyncio.gather(*(send(client, template.asks[q.kind], q.sentence, q.tokens) for q in questions))
    for question, reply in zip(questions, replies, strict=True):
        if not reply.whole:
            raise WarmUpFailed(f"{question.kind}: {reply.outcome('status', True)}, {reply.detail or 'no detail'}")
    return replies


def _checks(kinds: Sequence[Kind], asked: Sequence[Question], replies: Sequence[Reply]) -> dict[Kind, Check]:
    """Return the strictest check that all answers of a kind pass."""
    return {kind: next(check for check in CHECKS if not _unstable(kind, check, asked, replies)) for kind in kinds}


def _unstable(kind: Kind, check: Check, asked: Sequence[Question], replies: Sequence[Reply]) -> str:
    """Return why the answers of a kind do not pass a check; empty when they do."""
    first: dict[str, Any] = {}
    for question, reply in zip(asked, replies, strict=True):
        if question.kind != kind:
            continue
        seen = reply.seen(check)
        if seen is None:
            return f"{kind}: an answer has no {'token ids' if check == 'ids' else 'text'}. {reply.detail}".rstrip()
        if first.setdefault(question.sentence, seen) != seen:
            return f"{kind}: different answers to one question; replicas must run one image and decode greedily, or give another check"
    return ""
