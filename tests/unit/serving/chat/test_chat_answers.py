"""The chat's client gets answers over HTTP from a stand-in for the service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import pytest
from chat_service import StandIn, words
from openai import APIConnectionError, APIError

from serving.chat.conversation import Answer, Exchange
from serving.chat.service import About, Address, Options, Service

T = TypeVar("T")
BEFORE = (Exchange("a", "1"), Exchange("b", "2"), Exchange("c", "3"))


def with_service(run: Callable[[Service, StandIn], Awaitable[T]], stand_in: StandIn | None = None, patience_s: float = 60.0) -> T:
    """Return the result of `run`, called with a stand-in's address."""
    behind = stand_in or StandIn(pace_s=0)

    async def go() -> T:
        async with behind.serve() as url, aclosing(Service(Address(url, api_key="it-is-secret"), patience_s)) as service:
            return await run(service, behind)

    return asyncio.run(go())


def seen(
    question: str, *before: Exchange, stand_in: StandIn | None = None, patience_s: float = 60.0, options: Options | None = None
) -> list[Answer]:
    """Return all states of the answer to a question, as the page shows them."""

    async def run(service: Service, _: StandIn) -> list[Answer]:
        return [answer async for answer in service.answer([*before, Exchange(question)], options or Options())]

    return with_service(run, stand_in, patience_s)


def test_an_answer_grows_to_the_services_text() -> None:
    waits, *grows = seen("words 20")
    assert waits.waiting
    assert not waits.text
    assert grows[-1] == Answer(words(20))
    lengths = [len(answer.text) for answer in grows]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == 20


def test_a_request_has_the_conversation_the_options_and_the_key() -> None:
    behind = StandIn(pace_s=0)
    seen("words 1", *BEFORE[:1], stand_in=behind, options=Options(0.5, 0.75, 99, "be brief"))
    assert behind.keys == ["Bearer it-is-secret"]
    (body,) = behind.requests
    assert body == {
        "model": "mistral", "stream": True, "temperature": 0.5, "top_p": 0.75, "max_tokens": 99,
        "messages": [
            {"role": "system", "content": "be brief"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "1"},
            {"role": "user", "content": "words 1"},
        ],
    }  # fmt: skip


def test_an_answer_of_the_longest_length_gets_a_remark() -> None:
    assert seen("words 20", options=Options(max_tokens=7))[-1] == Answer(
        words(7), remarks=("The answer was cut at 7 tokens, the longest that the settings allow.",)
    )


@pytest.mark.parametrize(
    ("question", "remark"),
    [
        ("break 4", "The answer broke off: the connection to the service was lost."),
        ("fail 4", "The answer broke off: the engine failed"),
        ("cease 4", "The answer broke off."),
    ],
)
def test_the_text_of_a_broken_answer_stays_and_gets_a_remark(question: str, remark: str) -> None:
    behind = StandIn(pace_s=0)
    assert seen(question, stand_in=behind)[-1] == Answer(words(4), remarks=(remark,))
    assert len(behind.requests) == 1, "an answer that is visible is not started again"


@pytest.mark.parametrize(
    ("question", "remark"),
    [
        ("refuse", "The service refused: temperature must be at most 2"),
        ("model", "The service refused: there is no model 'mistral'"),
        ("late", "The answer took longer than the service allows. Try again, or ask for a shorter one."),
        ("key", "The service requires an API key that this chat does not have."),
    ],
)
def test_a_refusal_becomes_a_remark_and_is_not_retried(question: str, remark: str) -> None:
    behind = StandIn()
    assert seen(question, stand_in=behind)[1:] == [Answer(remarks=(remark,))]
    assert len(behind.requests) == 1


def test_a_service_that_is_not_ready_is_retried() -> None:
    states = seen("later 2")
    assert [state.waiting for state in states[:3]] == [
        "Waiting for the answer…", "Waiting for the service… (it is not ready)", "Waiting for the service… (it is not ready)",
    ]  # fmt: skip
    assert states[-1] == Answer(words(5))


def test_a_full_queue_is_retried_until_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.chat.error_messages.pause", lambda error, attempt: 0.01 if attempt < 2 else 3600)
    behind = StandIn()
    states = seen("busy", stand_in=behind)
    assert states[1].waiting == "Waiting for the service… (it is busy)"
    assert states[-1] == Answer(remarks=("The service is busy. Try again in a moment.",))
    assert len(behind.requests) == 3


def test_a_failed_service_is_tried_three_times() -> None:
    behind = StandIn()
    assert seen("crash", stand_in=behind)[-1] == Answer(remarks=("The service failed: the engine failed",))
    assert len(behind.requests) == 3


def test_a_stream_that_fails_before_its_first_text_is_retried_like_a_failure() -> None:
    behind = StandIn(pace_s=0)
    states = seen("fail 0", stand_in=behind)
    assert [state.waiting for state in states[1:-1]] == ["Waiting for the service… (it failed)"] * 2
    assert states[-1] == Answer(remarks=("The service failed: the engine failed",))
    assert len(behind.requests) == 3


def test_a_connection_that_breaks_before_the_first_text_is_retried() -> None:
    behind = StandIn(pace_s=0)
    states = seen("broken 2", stand_in=behind)
    assert states[1].waiting == "Waiting for the service… (it cannot be reached)"
    assert states[-1] == Answer(words(5))
    assert len(behind.requests) == 3


def test_a_service_that_comes_up_later_is_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def go() -> Answer:
        async with aclosing(Service(Address(f"http://127.0.0.1:{port}"))) as service:
            async with aclosing(service.answer([Exchange("words 3")], Options())) as answers:
                async for answer in answers:
                    if "cannot be reached" in answer.waiting:
                        break
            async with StandIn(pace_s=0).serve(port):
                return [answer async for answer in service.answer([Exchange("words 3")], Options())][-1]

    assert asyncio.run(go()) == Answer(words(3))


def test_a_missing_service_is_given_up_at_the_time_limit() -> None:
    async def go() -> Answer:
        async with StandIn().serve() as url:
            pass
        async with aclosing(Service(Address(url), 0.5)) as service:
            return [answer async for answer in service.answer([Exchange("hello")], Options())][-1]

    assert asyncio.run(go()) == Answer(remarks=("The service cannot be reached. Try again in a moment.",))


def test_the_oldest_turns_are_left_out_when_the_conversation_is_too_long() -> None:
    behind = StandIn(pace_s=0)
    last = seen("long", *BEFORE, stand_in=behind)[-1]
    assert last.text == words(5)
    assert last.remarks == ("The conversation is longer than the model can take: the 2 oldest questions and their answers were left out.",)
    assert [message["content"] for message in behind.requests[-1]["messages"]] == ["c", "3", "long"]


def test_leaving_turns_out_does_not_count_as_a_retry() -> None:
    behind = StandIn(pace_s=0)
    assert seen("unlucky 2", *BEFORE, *BEFORE, stand_in=behind)[-1].text == words(5)
    assert len(behind.requests) == 5 + 3


def test_a_single_message_that_is_too_long_gets_a_remark() -> None:
    last = seen("endless", *BEFORE)[-1]
    assert last == Answer(remarks=("The message is longer than the model can take, together with the longest answer.",))


def test_the_service_stops_computing_when_an_answer_is_closed() -> None:
    async def run(service: Service, behind: StandIn) -> None:
        async with aclosing(service.answer([Exchange("hold")], Options())) as answers:
            async for answer in answers:
                if answer.text:
                    break
        while behind.live:
            await asyncio.sleep(0.01)
        assert behind.left == 1

    with_service(run)


def test_the_note_and_the_longest_answer_are_what_the_service_says_about_its_model() -> None:
    behind = StandIn()
    assert with_service(lambda service, _: service.about(), behind) == About()
    behind.description, behind.longest = "Its words are noise.", 256
    assert with_service(lambda service, _: service.about(), behind) == About("Its words are noise.", 256)


@pytest.mark.parametrize(
    "foreign",
    [
        ("text/html", b"<html>"), ("application/json", b"[1]"), ("application/json", b"{}"), ("text/event-stream", b"data: {oops\n\n"),
        ("text/event-stream", b"data: {}\n\n"), ("text/event-stream", b"data: [1]\n\n"), ("text/event-stream", b"data: \xff\n\n"),
    ],
)  # fmt: skip
def test_a_response_that_is_not_openais_api_is_no_answer_and_no_note(foreign: tuple[str, bytes]) -> None:
    behind = StandIn()
    behind.foreign = foreign
    assert seen("hello", stand_in=behind)[-1] == Answer(remarks=("The service failed: what came is no answer",))
    with pytest.raises(APIError):
        with_service(lambda service, _: service.about(), behind)


def test_an_answer_that_ends_before_its_first_text_is_retried() -> None:
    behind = StandIn(pace_s=0)
    assert seen("cease 0", stand_in=behind)[-1] == Answer(remarks=("The service failed: what came is no answer",))
    assert len(behind.requests) == 3


def test_without_a_service_there_is_no_note() -> None:
    async def go() -> About:
        async with StandIn().serve() as url:
            pass
        async with aclosing(Service(Address(url))) as service:
            return await service.about()

    with pytest.raises(APIConnectionError):
        asyncio.run(go())


def test_the_address_comes_from_the_environment() -> None:
    address = Address.from_env({"LEEWARD_URL": "http://s:8000/", "LEEWARD_MODEL_NAME": "m", "LEEWARD_API_KEY": "it-is-secret"})
    assert (address.url, address.model, address.api_key) == ("http://s:8000", "m", "it-is-secret")
    assert "it-is-secret" not in repr(address)
    assert Address.from_env({"LEEWARD_URL": "http://s:8000"}) == Address("http://s:8000", "mistral", "")
    with pytest.raises(KeyError, match="LEEWARD_URL"):
        Address.from_env({})
