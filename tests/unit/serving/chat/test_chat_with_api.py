"""The chat against the service's real API, over a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest
from api_service import SETTINGS, WORDS, StandIn, served, tokenizer

from serving.chat.conversation import Answer, Exchange
from serving.chat.service import About, Address, Options, Service
from serving.engines.contract import GenerationFailed, QueueFull
from serving.tokenizer import Message

SHORT = Options(temperature=0, max_tokens=80)
KEY = "it-is-secret"


@pytest.fixture
def engine() -> StandIn:
    return StandIn()


@pytest.fixture
def url(engine: StandIn) -> Iterator[str]:
    with served(engine, replace(SETTINGS, api_key=KEY)) as service:
        yield service.url


def last(url: str, *said: Exchange, key: str = KEY, patience_s: float = 60.0, options: Options = SHORT) -> Answer:
    """Return the last state of the answer."""

    async def go() -> Answer:
        async with aclosing(Service(Address(url, api_key=key), patience_s)) as service:
            return [answer async for answer in service.answer(said, options)][-1]

    return asyncio.run(go())


def test_the_engine_gets_the_complete_conversation_and_its_answer_arrives_complete(url: str, engine: StandIn) -> None:
    assert last(url, Exchange("Hello", "Good day."), Exchange("And?")) == Answer(WORDS)
    conversation = [Message("user", "Hello"), Message("assistant", "Good day."), Message("user", "And?")]
    assert list(engine.requests[0].prompt) == list(tokenizer().chat(conversation))


def test_a_conversation_longer_than_the_model_can_take_loses_its_oldest_turns(url: str, engine: StandIn) -> None:
    old = Exchange("word " * 30, "word " * 30)
    answer = last(url, old, old, old, Exchange("short", "one"), Exchange("And?"))
    assert answer.text == WORDS
    assert "2 oldest questions" in " ".join(answer.remarks)


def test_a_wrong_key_is_reported_without_the_key(url: str) -> None:
    answer = last(url, Exchange("Hello"), key="it-is-wrong")
    assert answer == Answer(remarks=("The service requires an API key that this chat does not have.",))


def test_a_full_queue_of_the_real_api_is_retried(url: str, engine: StandIn) -> None:
    engine.fail(QueueFull("the queue is full"))
    assert last(url, Exchange("Hello"), patience_s=0.5).remarks == ("The service is busy. Try again in a moment.",)


def test_a_failure_in_the_middle_keeps_the_text(url: str, engine: StandIn) -> None:
    engine.fail(GenerationFailed("the engine failed"), after=3)
    answer = last(url, Exchange("Hello"))
    assert WORDS.startswith(answer.text)
    assert answer.text
    assert answer.remarks[0].startswith("The answer broke off: ")


def test_more_tokens_than_the_service_allows_are_refused_with_its_message(url: str) -> None:
    answer = last(url, Exchange("Hello"), options=replace(SHORT, max_tokens=101))
    assert answer.remarks[0].startswith("The service refused: ")
    assert "max_tokens" in answer.remarks[0]


def test_the_longest_answer_of_the_real_api_is_one_that_it_gives(url: str) -> None:
    async def ask() -> About:
        async with aclosing(Service(Address(url, api_key=KEY))) as service:
            return await service.about()

    about = asyncio.run(ask())
    assert about == About("", 100)
    assert not last(url, Exchange("Hello"), options=replace(SHORT, max_tokens=about.max_tokens)).remarks
