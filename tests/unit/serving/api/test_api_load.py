"""The API answers the load generator's requests in the form that it expects."""

from __future__ import annotations

import asyncio

import pytest
from api_service import StandIn, served
from serving_service import TEMPLATE, client

from drills.load.request import send
from drills.load.template import Reply
from drills.records import Kind


def asked(engine: StandIn, kind: Kind, tokens: int) -> Reply:
    async def go(url: str) -> Reply:
        with client(url) as session:
            return await send(session, TEMPLATE.asks[kind], "What keeps a service alive?", tokens)

    with served(engine) as service:
        return asyncio.run(go(service.url))


@pytest.mark.parametrize("kind", ["short", "stream"])
def test_answers_have_the_ids_of_all_tokens(kind: Kind) -> None:
    engine = StandIn()
    reply = asked(engine, kind, 7)
    assert (reply.status, reply.whole, reply.detail) == (200, True, "")
    assert reply.ids == engine.tokens[:7]
    assert reply.outcome("ids", tuple(engine.tokens[:7])) == "finished"


def test_a_stream_that_breaks_off_has_the_outcome_cut() -> None:
    engine = StandIn()
    engine.fail(RuntimeError("x"), after=3)
    reply = asked(engine, "stream", 7)
    assert reply.ids == engine.tokens[:3]
    assert reply.outcome("ids", tuple(engine.tokens[:7])) == "cut"
