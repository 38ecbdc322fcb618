"""Settings, the tokenizer, events and the chat's side of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from serving_service import Service, running

from serving import chat, sse
from serving.settings import Settings
from serving.tokenizer import VOCABULARY, Tokenizer


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_env({"LEEWARD_MODEL": "/m", "LEEWARD_STREAM_TOKENS_PER_S": "2.5", "LEEWARD_MAX_TOKENS": "50"})
    assert (settings.model, settings.stream_tokens_per_s, settings.max_tokens) == (Path("/m"), 2.5, 50)
    assert settings.longest_stream_s == 20.0
    assert Settings.from_env({}) == Settings()


@pytest.mark.parametrize("value", ["0", "-1", "fast", "", "nan"])
def test_a_pace_that_is_not_a_positive_number_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match="LEEWARD_STREAM_TOKENS_PER_S"):
        Settings.from_env({"LEEWARD_STREAM_TOKENS_PER_S": value})


@pytest.mark.parametrize("value", ["0", "0.5", "many"])
def test_a_longest_answer_that_is_not_a_positive_whole_number_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match="LEEWARD_MAX_TOKENS must be a positive whole number"):
        Settings.from_env({"LEEWARD_MAX_TOKENS": value})


def test_a_sentence_becomes_mistrals_template() -> None:
    # Golden: <s> [INST] hello [/INST] of the v3 tokenizer.
    assert Tokenizer().prompt("hello") == [1, 3, 7080, 29477, 4]


def test_text_comes_back_from_its_tokens_without_the_template() -> None:
    tokenizer = Tokenizer()
    prompt = tokenizer.prompt("Grüße, 酒!")
    assert tokenizer.text(prompt).strip() == "Grüße, 酒!"
    assert max(prompt) < VOCABULARY


def test_events_are_read_back_as_written() -> None:
    text = sse.encode({"token": 1, "text": "line\nbreak é"}) + sse.encode({"error": "x"}, name="error") + sse.encode(sse.DONE)
    decoder = sse.Decoder()
    first, error, done = (event for line in text.encode().splitlines(keepends=True) if (event := decoder.feed(line)))
    assert first.json() == {"token": 1, "text": "line\nbreak é"}
    assert (error.name, error.json()) == ("error", {"error": "x"})
    assert done.last
    assert not first.last


def test_an_event_whose_data_is_no_object_is_told() -> None:
    with pytest.raises(ValueError, match="not an object"):
        sse.Event("[1]").json()


@asynccontextmanager
async def asked(behaviour: str, before: int = 2) -> AsyncIterator[Service]:
    async with running() as service:
        service.stream, service.tokens_before = behaviour, before
        yield service


def chat_answer(behaviour: str) -> list[str]:
    """What the chat shows, step by step."""

    async def go() -> list[str]:
        async with asked(behaviour) as service:
            return await asyncio.to_thread(lambda: list(chat.answer(service.url, "hello", 3)))

    return asyncio.run(go())


def test_the_chat_says_that_the_service_is_not_there() -> None:
    async def url_of_one_that_is_gone() -> str:
        async with running() as service:
            return service.url

    with pytest.raises(chat.NoAnswer, match="cannot be reached"):
        list(chat.answer(asyncio.run(url_of_one_that_is_gone()), "hello", 3))


def test_the_chat_shows_the_answer_as_it_grows() -> None:
    assert chat_answer("answer")[:3] == ["é", "éé", "ééé"]


@pytest.mark.parametrize(("behaviour", "told"), [("busy", "refused"), ("end", "broke off"), ("error", "boom"), ("drop", "broke off")])
def test_the_chat_says_what_went_wrong(behaviour: str, told: str) -> None:
    with pytest.raises(chat.NoAnswer, match=told):
        chat_answer(behaviour)
