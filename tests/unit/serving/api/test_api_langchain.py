"""LangChain's client, unchanged, against the API. It is OpenAI's client inside, whose own tests are in test_api_client.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from api_service import WORDS, StandIn, served, tokenizer
from openai import BadRequestError

from serving.tokenizer import Message


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[StandIn, str]]:
    engine = StandIn()
    with served(engine) as service:
        yield engine, service.v1


@pytest.fixture
def engine(running: tuple[StandIn, str]) -> StandIn:
    running[0].forget()
    return running[0]


def chat(running: tuple[StandIn, str], **options: object) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="mistral", base_url=running[1], api_key="any", max_retries=0, **options)


def test_a_conversation_is_answered(running: tuple[StandIn, str], engine: StandIn) -> None:
    answer = chat(running).invoke([("system", "Be brief."), ("human", "Hello?"), ("ai", "Yes?"), ("human", "Go on.")])
    assert (answer.content, answer.response_metadata["finish_reason"]) == (WORDS, "stop")
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] == len(engine.tokens)
    said = [Message("system", "Be brief."), Message("user", "Hello?"), Message("assistant", "Yes?"), Message("user", "Go on.")]
    assert engine.requests[0].prompt == tuple(tokenizer().chat(said))


def test_a_stream_has_the_same_answer(running: tuple[StandIn, str], engine: StandIn) -> None:
    chunks = list(chat(running, stream_usage=True).stream("Hello?"))
    assert "".join(str(chunk.content) for chunk in chunks) == WORDS
    assert len(chunks) > len(engine.tokens)
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == len(engine.tokens)


def test_a_tool_is_refused_by_name(running: tuple[StandIn, str], engine: StandIn) -> None:
    def weather(town: str) -> str:
        """Return the weather of a town."""
        return town

    with pytest.raises(BadRequestError, match="tools"):
        chat(running).bind_tools([weather]).invoke("How is the weather?")
