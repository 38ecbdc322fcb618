"""Two engines on two nodes: which one answers, and what happens to its requests when it is replaced or killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from asking import Stream, begun, client, ids, running, stream, whole
from deployed import LONG, SLOTS, SLOW, deploy, metric, near, replicas, until

Alone = Callable[[str, int], list[int]]
NAMES = {
    **{f"leeward_{name}": 0 for name in ("queued", "live", "slots")},
    "leeward_tokens_total": 1,
    "leeward_requests_total": 1,
    **{f"leeward_{name}_s_count": 1 for name in ("queue_wait", "first_token", "token_gap")},
}
"""Names of the metrics in Prometheus, and their least values after some answers."""
ROOMY = {**SLOW, "LEEWARD_MAX_QUEUE": "64"}
"""Environment with a queue that refuses no request."""
STREAM = 40
"""Tokens of a stream of five seconds: it lasts into a replacement, and less than the grace period."""


@pytest.fixture(scope="module", autouse=True)
def service() -> None:
    deploy(ROOMY, replicas=2)


def test_the_engine_on_the_same_node_answers_and_the_other_one_too_under_a_burst() -> None:
    far = next(engine for engine in replicas("engine") if engine != near())

    async def one_by_one() -> None:
        async with client() as http:
            for _ in range(6):
                ids(await whole(http, "Near", 1))

    async def at_once() -> None:
        async with client() as http:
            for answer in await asyncio.gather(*(whole(http, "Far", 3) for _ in range(32))):
                ids(answer)

    asyncio.run(one_by_one())
    until("the requests are counted", lambda: metric("leeward_requests_total")[near().id] == 6)
    assert metric("leeward_requests_total")[far.id] == 0
    asyncio.run(at_once())
    until("all are counted", lambda: sum(metric("leeward_requests_total")[engine.id] for engine in replicas("engine")) == 6 + 32)
    assert metric("leeward_requests_total")[far.id] > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_metrics_of_an_engine_are_exported(name: str) -> None:
    async def ask() -> None:
        async with client() as http:
            ids(await whole(http, "Count", 3))

    asyncio.run(ask())
    until(f"{name} is exported", lambda: near().id in metric(name) and metric(name)[near().id] >= NAMES[name])


def test_during_a_replacement_of_all_replicas_streams_end_complete_and_new_requests_are_answered(alone: Alone) -> None:
    old = {replica.name for replica in [*replicas("engine"), *replicas("api")]}
    answers: list[httpx.Response] = []

    async def replace() -> None:
        await asyncio.to_thread(deploy, {**ROOMY, "LEEWARD_RELEASE": "2"}, replicas=2)

    async def go() -> list[Stream]:
        async with client() as http:
            streams = [Stream() for _ in range(2 * SLOTS)]
            async with running([stream(http, f"Stream {n}", STREAM, got) for n, got in enumerate(streams)]) as tasks:
                await begun(streams)
                replacing = asyncio.ensure_future(replace())
                while not replacing.done():
                    answers.append(await whole(http, "Meanwhile", 2))
                    await asyncio.sleep(0.5)
                await replacing
                return await asyncio.gather(*tasks)

    streams = asyncio.run(go())
    assert not old & {replica.name for replica in [*replicas("engine"), *replicas("api")]}
    assert [(got.done, got.error) for got in streams] == [(True, None)] * len(streams)
    assert [got.tokens for got in streams] == [alone(f"Stream {n}", STREAM) for n in range(len(streams))]
    assert answers
    assert all(ids(answer) == alone("Meanwhile", 2) for answer in answers)


def test_when_an_engine_is_killed_its_streams_get_an_error_and_the_other_answers_requests_without_a_token(alone: Alone) -> None:
    lost = near()

    async def go() -> tuple[list[Stream], list[httpx.Response]]:
        async with client() as http:
            streams, tasks = [], []
            for _ in range(SLOTS):
                # One after the other, so that all go to the near one.
                streams.append(Stream())
                tasks.append(asyncio.ensure_future(stream(http, "Lost", LONG, streams[-1])))
                await begun(streams)
            async with running([whole(http, f"Kept {n}", 4) for n in range(3)]) as waiting:
                # The first one waits there for a slot.
                await asyncio.sleep(1)
                lost.kill()
                return await asyncio.gather(*tasks), await asyncio.gather(*waiting)

    streams, answers = asyncio.run(go())
    for got in streams:
        assert got.error
        assert (got.error["type"], got.error["code"]) == ("server_error", "generation_failed")
        assert f"lost after {len(got.tokens)} tokens" in got.error["message"]
        assert not got.done
        assert got.tokens == alone("Lost", len(got.tokens))
    assert [ids(answer) for answer in answers] == [alone(f"Kept {n}", 4) for n in range(3)]
    until("there are two again", lambda: len({replica.node for replica in replicas("engine")}) == 2)
    assert lost.name not in {replica.name for replica in replicas("engine")}


def test_when_an_api_is_killed_its_streams_break_off_without_done_and_others_are_answered(alone: Alone) -> None:
    lost = near("api")

    async def go() -> tuple[list[Stream], list[Any], httpx.Response]:
        async with client() as http:
            streams = [Stream() for _ in range(SLOTS)]
            async with running([stream(http, "Lost", 3 * STREAM, got) for got in streams]) as tasks:
                await begun(streams)
                lost.kill()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
            return streams, ends, await whole(http, "Kept", 4)

    streams, ends, answer = asyncio.run(go())
    assert all(isinstance(end, httpx.RemoteProtocolError) for end in ends), ends
    for got in streams:
        assert not got.done
        assert got.tokens == alone("Lost", len(got.tokens))
    assert ids(answer) == alone("Kept", 4)
    until("there are two again", lambda: len({replica.node for replica in replicas("api")}) == 2)
    assert lost.name not in {replica.name for replica in replicas("api")}
