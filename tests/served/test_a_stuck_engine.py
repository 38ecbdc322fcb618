"""An engine with steps that do not end: waiting requests get an error in time, and the engine is replaced."""

from __future__ import annotations

import asyncio

from asking import Stream, begun, client, ids, stream, whole
from deployed import deploy, replicas, until

STUCK = {"LEEWARD_STEPS_PER_S": "0.001"}
"""Pace of the engine: each decode but the first, which is the warm-up's, takes a quarter of an hour. Prefills are not slowed down."""


def test_a_late_answer_ends_at_its_deadline_although_the_engine_cannot_check_the_time() -> None:
    deploy({**STUCK, "LEEWARD_DEADLINE_S": "5"}, grace_s=5)

    async def go() -> tuple[Stream, int, str]:
        async with client() as http:
            # When the second request comes, the engine is in the step of the first.
            got, answer = await stream(http, "Once", 5), await whole(http, "Twice", 1)
            return got, answer.status_code, answer.json()["error"]["code"]

    got, *refusal = asyncio.run(go())
    assert got.error
    assert got.error["code"] == "deadline_exceeded"
    assert not got.done
    assert refusal == [504, "deadline_exceeded"]


def test_an_engine_that_is_stuck_in_a_step_is_replaced_and_its_stream_gets_an_error() -> None:
    deploy({**STUCK, "LEEWARD_STUCK_AFTER_S": "2"}, grace_s=5)
    (stuck,) = replicas("engine")

    async def go() -> Stream:
        async with client() as http:
            got = Stream()
            reading = asyncio.ensure_future(stream(http, "Once", 5, got))
            await begun([got])
            return await reading

    got = asyncio.run(go())
    assert got.error
    assert got.error["code"] == "generation_failed"
    assert not got.done
    until("there is another", lambda: stuck.name not in {replica.name for replica in replicas("engine")} and bool(replicas("engine")))

    async def again() -> None:
        async with client() as http:
            assert len(ids(await whole(http, "Once", 1))) == 1

    asyncio.run(again())
