"""One engine with few slots and a short queue: ten times too many requests, and clients that disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
from asking import Stream, begun, client, ids, running, stream, whole
from deployed import LONG, QUEUE, SLOTS, SLOW, deploy, metric, replicas, until

Alone = Callable[[str, int], list[int]]
FITS = SLOTS + QUEUE
MOST_BYTES = 1_500_000_000
"""Memory of a process: three times that of an idle one with torch."""


@pytest.fixture(scope="module", autouse=True)
def service() -> None:
    deploy(SLOW)


def test_of_ten_times_too_many_requests_some_are_refused_in_openais_format_and_all_others_answered(alone: Alone) -> None:
    async def go() -> list[httpx.Response]:
        async with client() as http:
            return await asyncio.gather(*(whole(http, f"Question {number % 7}", 8) for number in range(10 * FITS)))

    answers = asyncio.run(go())
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    assert len(answers) - len(refused) >= FITS
    for answer in refused:
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
    assert all(ids(answer) == alone(f"Question {n % 7}", 8) for n, answer in enumerate(answers) if answer not in refused)
    for replica in [*replicas("engine"), *replicas("api")]:
        assert replica.most_bytes < MOST_BYTES, replica


@pytest.mark.parametrize("ask", [stream, whole])
def test_clients_that_disconnect_free_their_slots_and_their_places_in_the_queue(ask: Callable[..., Coroutine[Any, Any, Any]]) -> None:
    async def go() -> None:
        async with client() as http:
            # Exported metrics are a second old: at the end of the test before, the same number of requests was live.
            await _has(live=0, queued=0)
            async with running([ask(http, "Once", LONG) for _ in range(SLOTS)]):
                await _has(live=SLOTS, queued=0)
                async with running([ask(http, "Twice", LONG) for _ in range(QUEUE)]):
                    await _has(live=SLOTS, queued=QUEUE)
                await _has(live=SLOTS, queued=0)
            await _has(live=0, queued=0)
            ids(await whole(http, "Now", 2))

    asyncio.run(go())


def test_a_stream_that_is_closed_frees_its_slot_for_a_waiting_one() -> None:
    async def go() -> None:
        async with client() as http:
            streams = [Stream() for _ in range(SLOTS)]
            async with running([stream(http, "Once", LONG, got) for got in streams]) as tasks:
                await begun(streams)
                async with running([whole(http, "Next", 2)]) as (waiting,):
                    tasks[0].cancel()
                    ids(await waiting)
            assert not any(got.done for got in streams)

    asyncio.run(go())


async def _has(live: int, queued: int) -> None:
    """Wait until the engine computes and queues these numbers of requests."""
    (engine,) = await asyncio.to_thread(replicas, "engine")
    wanted, looks = (live, queued), list[tuple[float | None, ...]]()

    def has() -> bool:
        looks.append(tuple(metric(name).get(engine.id) for name in ("leeward_live", "leeward_queued")))
        return looks[-1] == wanted

    def seen() -> object:
        return looks, {name: metric(name)[engine.id] for name in ("leeward_requests_total", "leeward_tokens_total")}

    await asyncio.to_thread(until, f"{live} are live and {queued} queued", has, seen)
