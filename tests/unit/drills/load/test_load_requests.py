"""The outcome of one request of the load, for everything that the service can do to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import virtual_time
from serving_service import TEMPLATE, client, running

from drills.load.request import send
from drills.load.template import Reply
from drills.records import Kind
from drills.request import Template
from serving import sse

RIGHT = (100, 101, 102, 103)


def reply_to(kind: Kind, behaviour: str, before: int = 2, piece: int = 1) -> Reply:
    """Send one request of four tokens to a service with this behaviour, and return the reply."""

    async def go() -> Reply:
        async with running() as service:
            service.tokens_before, service.piece = before, piece
            setattr(service, kind, behaviour)
            with client(service) as session:
                return await send(session, TEMPLATE.asks[kind], "hello?&", 4)

    return virtual_time.run(go())


@pytest.mark.parametrize("kind", ["short", "stream"])
def test_a_complete_right_answer_is_finished(kind: Kind) -> None:
    reply = reply_to(kind, "answer")
    assert reply.outcome("ids", RIGHT) == "finished"
    assert (tuple(reply.ids), len(reply.token_times), reply.status, reply.detail) == (RIGHT, 4, 200, "")
    assert reply.token_times == sorted(reply.token_times)
    assert reply.token_times[-1] <= reply.end


@pytest.mark.parametrize("kind", ["short", "stream"])
def test_a_complete_answer_that_differs_is_wrong(kind: Kind) -> None:
    assert reply_to(kind, "wrong").outcome("ids", RIGHT) == "wrong"


def test_an_answer_that_is_not_json_is_wrong_and_quoted() -> None:
    reply = reply_to("short", "nonsense")
    assert reply.outcome("ids", RIGHT) == "wrong"
    assert "<html>" in reply.detail


@pytest.mark.parametrize("kind", ["short", "stream"])
def test_a_status_other_than_200_is_refused_and_quoted(kind: Kind) -> None:
    reply = reply_to(kind, "busy")
    assert (reply.outcome("ids", RIGHT), reply.status) == ("refused", 429)
    assert "queue full" in reply.detail


def test_a_refusal_that_is_not_valid_text_is_refused_too() -> None:
    reply = reply_to("short", "mojibake")
    assert (reply.outcome("ids", RIGHT), reply.detail) == ("refused", "HTTP 502: l\N{REPLACEMENT CHARACTER}-bas")


def test_a_short_request_whose_connection_breaks_is_refused() -> None:
    assert reply_to("short", "drop").outcome("ids", RIGHT) == "refused"


def test_a_request_to_a_missing_service_is_refused() -> None:
    async def go() -> Reply:
        async with running() as service:
            url = service.url
        with client(url) as session:
            return await send(session, TEMPLATE.asks["short"], "hello", 4)

    reply = asyncio.run(go())
    assert (reply.outcome("ids", RIGHT), reply.status) == ("refused", None)
    assert reply.detail


@pytest.mark.parametrize("behaviour", ["drop", "error", "end", "flood"])
def test_a_stream_that_ends_after_some_tokens_without_done_is_cut(behaviour: str) -> None:
    reply = reply_to("stream", behaviour)
    assert (reply.outcome("ids", RIGHT), tuple(reply.ids)) == ("cut", RIGHT[:2])
    assert reply.detail


@pytest.mark.parametrize("behaviour", ["drop", "error", "end"])
def test_a_stream_that_ends_before_its_first_token_is_refused(behaviour: str) -> None:
    assert reply_to("stream", behaviour, before=0).outcome("ids", RIGHT) == "refused"


def test_a_stream_that_lacks_only_done_is_cut_too() -> None:
    reply = reply_to("stream", "end", before=4)
    assert (reply.outcome("ids", RIGHT), tuple(reply.ids), reply.detail) == ("cut", RIGHT, "the stream ended without [DONE]")


@pytest.mark.parametrize("kind", ["short", "stream"])
def test_a_request_without_a_byte_for_the_time_limit_has_hung(kind: Kind) -> None:
    reply = reply_to(kind, "stall")
    assert (reply.outcome("ids", RIGHT), reply.status) == ("hung", None if kind == "short" else 200)


def test_tokens_that_come_together_have_one_time() -> None:
    reply = Reply(TEMPLATE.asks["stream"].answer)
    reply.head(200, marked=True)
    for now, ids in ((1.0, [100, 101]), (2.0, [102, 103])):
        assert not reply.data(sse.encode({"choices": [{"delta": {"content": "é"}, "token_ids": ids}]}).encode(), now)
    assert (tuple(reply.ids), reply.token_times) == (RIGHT, [1.0, 1.0, 2.0, 2.0])


@pytest.mark.parametrize("kind", ["short", "stream"])
def test_every_request_is_greedy_and_asks_for_its_number_of_tokens_and_their_ids(kind: Kind) -> None:
    async def go() -> dict[str, Any]:
        async with running() as service:
            with client(service) as session:
                asks = Template.of("leeward", values={"model": "mistral-7b"}).as_sent().asks
                await send(session, asks[kind], "a&b=ü?#%", 4)
        return service.bodies[0]

    body = asyncio.run(go())
    assert (body["model"], body["temperature"], body["max_tokens"], body["return_token_ids"]) == ("mistral-7b", 0, 4, True)
    assert body.get("prompt") == ("a&b=ü?#%" if kind == "short" else None)
    assert body.get("messages") == (None if kind == "short" else [{"role": "user", "content": "a&b=ü?#%"}])
    assert body.get("stream", False) == (kind == "stream")
