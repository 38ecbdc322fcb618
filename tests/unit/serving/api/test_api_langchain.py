"""LangChain's client, unchanged, against the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api_service import WORDS, StandIn, served, tokenizer
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from openai import BadRequestError

from serving.engines.contract import Sampling
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


def chat(running: tuple[StandIn, str], **options: object) -> ChatOpenAI:
    return ChatOpenAI(model="mistral", base_url=running[1], api_key="any", max_retries=0, **options)


def test_a_conversation_is_answered(running: tuple[StandIn, str], engine: StandIn) -> None:
    answer = chat(running).invoke([SystemMessage("Be brief."), HumanMessage("Hello?"), AIMessage("Yes?"), HumanMessage("Go on.")])
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


def test_several_questions_are_answered_at_once(running: tuple[StandIn, str], engine: StandIn) -> None:
    assert [answer.content for answer in chat(running).batch(["One?", "Two?", "Three?"])] == [WORDS] * 3
    assert len(engine.requests) == 3


def test_its_options_reach_the_engine(running: tuple[StandIn, str], engine: StandIn) -> None:
    answer = chat(running, temperature=0.5, top_p=0.9, seed=7, max_completion_tokens=3, n=1, stop=["never"]).invoke("Hello?")
    assert engine.requests[0].sampling == Sampling(temperature=0.5, top_p=0.9, seed=7)
    assert (engine.requests[0].max_tokens, answer.response_metadata["finish_reason"]) == (3, "length")


def test_a_text_is_continued(running: tuple[StandIn, str], engine: StandIn) -> None:
    client = OpenAI(model="mistral", base_url=running[1], api_key="any", max_retries=0, max_tokens=50)
    assert client.invoke("Once upon a time") == " " + WORDS


def test_a_tool_is_refused_by_name(running: tuple[StandIn, str], engine: StandIn) -> None:
    def weather(town: str) -> str:
        """Return the weather of a town."""
        return town

    with pytest.raises(BadRequestError, match="tools"):
        chat(running).bind_tools([weather]).invoke("How is the weather?")
