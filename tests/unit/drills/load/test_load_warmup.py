"""The warm-up finds out what a healthy service's answers have in common, and the load compares that and no more."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import virtual_time
from aiohttp import web
from serving_service import client

from drills.load.run import Load, Plan
from drills.load.template import Check, Template
from drills.load.warmup import Learned, WarmUpFailed, learn
from drills.records import Record, read_lines
from drills.request import Template as Described

OPENAI = Described.of("openai", values={"model": "m"}).as_sent()
TOKENS: Any = {"short": 4}
Text = Callable[[str, int], dict[str, Any]]
"""What a service answers to a prompt, beside others that are under way."""


class Said:
    """A service with OpenAI's completions."""

    def __init__(self, text: Text) -> None:
        self.text, self.prompts, self.under_way, self.url = text, list[str](), 0, ""

    async def completions(self, request: web.Request) -> web.Response:
        prompt = (await request.json())["prompt"]
        self.prompts.append(prompt)
        self.under_way += 1
        await _turns()  # so that those that came together are in one batch
        choice = self.text(prompt, self.under_way)
        await _turns()
        self.under_way -= 1
        return web.json_response({"id": random.random(), "choices": [choice]})


async def _turns() -> None:
    """Wait until requests that were sent together have come: client and service share the event loop, so turns of it are enough."""
    for _ in range(200):
        await asyncio.sleep(0)


@asynccontextmanager
async def saying(text: Text) -> AsyncIterator[Said]:
    service, app = Said(text), web.Application()
    app.add_routes([web.post("/v1/completions", service.completions)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()


def learned(text: Text, template: Template = OPENAI, streams: int = 8, within_s: float = 60) -> Learned:
    async def go() -> Learned:
        async with saying(text) as service:
            with client(service.url) as session:
                return await learn(session, template, TOKENS, streams, within_s, pause_s=0.01)

    return virtual_time.run(go())


numbers = itertools.count()
ALIKE: dict[str, tuple[Text, Check]] = {
    "tokens": (lambda prompt, _: {"text": prompt, "token_ids": [1, 2]}, "ids"),
    "text": (lambda prompt, _: {"text": prompt}, "text"),
    "text, with ids that differ": (lambda prompt, _: {"text": prompt, "token_ids": [next(numbers)]}, "text"),
    "nothing but that there is some": (lambda prompt, _: {"text": f"{next(numbers)}"}, "not-empty"),
    "nothing": (lambda prompt, _: {"text": "x" * (next(numbers) % 2)}, "status"),
    "text when alone, another one in a batch": (lambda prompt, n: {"text": prompt if n < 6 else "other"}, "not-empty"),
    "text in a batch, another one when alone": (lambda prompt, n: {"text": "alone" if n == 1 else prompt}, "not-empty"),
}


@pytest.mark.parametrize("alike", ALIKE)
def test_the_strictest_check_that_healthy_answers_pass_is_learnt(alike: str) -> None:
    text, check = ALIKE[alike]
    assert learned(text).checks == {"short": check}


def test_a_check_that_the_template_asks_for_is_not_weakened() -> None:
    with pytest.raises(WarmUpFailed, match="different answers"):
        learned(ALIKE["nothing but that there is some"][0], replace(OPENAI, check="text"), within_s=0.2)
    with pytest.raises(WarmUpFailed, match="no token ids"):
        learned(ALIKE["text"][0], replace(OPENAI, check="ids"), within_s=0.2)
    assert learned(ALIKE["text"][0], replace(OPENAI, check="status")).checks == {"short": "status"}


def test_every_sentence_has_an_answer_of_its_own() -> None:
    found = learned(ALIKE["text"][0], replace(OPENAI, sentences=("a", "b")))
    assert [found.expected("short", sentence) for sentence in "ab"] == [("a", 1), ("b", 1)]


def records(tmp_path: Path, text: Text, later: Text, template: Template = OPENAI) -> tuple[list[Record], list[str]]:
    """Run a load on a service that answers otherwise once the load has begun; return its records and the prompts since then."""

    async def go() -> list[str]:
        async with saying(text) as service:
            with client(service.url) as session:
                load = Load(Plan(service.url, template, short_per_s=50, streams=0), session, tmp_path / "r")
                run = asyncio.ensure_future(load.run(warm_up_s=60, max_duration_s=600))
                while load.state == "warming":
                    await asyncio.sleep(0.005)
                service.text, before = later, len(service.prompts)
                while load.sent < 12:
                    await asyncio.sleep(0.005)
                load.stop()
                await run
            return service.prompts[before:]

    prompts = virtual_time.run(go())
    with (tmp_path / "r").open() as lines:
        return list(read_lines(lines)), prompts


def test_another_answer_is_wrong_only_where_answers_can_be_compared(tmp_path: Path) -> None:
    for n, (name, outcome) in enumerate((("tokens", "wrong"), ("text", "wrong"), ("nothing but that there is some", "finished"))):
        (tmp_path / str(n)).mkdir()
        found, _ = records(tmp_path / str(n), ALIKE[name][0], lambda prompt, _: {"text": "else", "token_ids": [9]})
        assert outcome in {record.outcome for record in found}
        assert (outcome == "wrong") is any(record.outcome == "wrong" for record in found)


def test_an_empty_answer_is_wrong_where_healthy_ones_are_not_empty(tmp_path: Path) -> None:
    found, _ = records(tmp_path, ALIKE["nothing but that there is some"][0], lambda prompt, _: {"text": ""})
    assert "wrong" in {record.outcome for record in found}


def test_every_prompt_differs_from_its_beginning_where_answers_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    _, prompts = records(tmp_path / "a", *[ALIKE["nothing but that there is some"][0]] * 2)
    assert len(set(prompts)) == len(prompts)
    assert len({prompt[:8] for prompt in prompts}) == len(prompts), "no cache of prompts knows how they begin"
    (tmp_path / "b").mkdir()
    _, prompts = records(tmp_path / "b", *[ALIKE["text"][0]] * 2)
    assert set(prompts) == set(OPENAI.sentences), "their answers are known"
