"""One engine with a long queue at full speed: its answers, and five hundred of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import openai
import pytest
from asking import URL, Stream, client, ids, stream, whole
from deployed import KEY, deploy, found_without_the_gcs, replicas

from serving.make_model import DESCRIPTION

Alone = Callable[[str, int], list[int]]
MANY = 500
WORDS = 16
"""Number of different questions among the requests."""


@pytest.fixture(scope="module", autouse=True)
def service() -> None:
    deploy({"LEEWARD_SLOTS": "16", "LEEWARD_MAX_QUEUE": "512", "LEEWARD_DEADLINE_S": "600"})


@pytest.fixture(scope="module")
def official() -> openai.OpenAI:
    return openai.OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0)


def test_the_official_client_gets_the_same_chat_with_and_without_streaming(official: openai.OpenAI) -> None:
    asked: dict[str, object] = {"model": "mistral", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 12, "temperature": 0}
    answer = official.chat.completions.create(**asked)  # type: ignore[call-overload]
    *chunks, usage = official.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer.choices[0].message.content != ""
    assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason == "length"
    assert usage.usage == answer.usage
    assert usage.usage.completion_tokens == 12


def test_an_answer_through_serve_equals_the_engines_own(alone: Alone) -> None:
    async def go() -> tuple[httpx.Response, Stream]:
        async with client() as http:
            return await whole(http, "The sea", 40), await stream(http, "The sea", 40)

    answer, streamed = asyncio.run(go())
    assert ids(answer) == streamed.tokens == alone("The sea", 40)
    assert (streamed.done, streamed.finish, streamed.error) == (True, "length", None)


@pytest.mark.parametrize("deployment", ["api", "engine"])
def test_a_replica_loads_the_class_of_a_new_heads_proxy_without_the_gcs(deployment: str) -> None:
    assert [found_without_the_gcs(replica) for replica in replicas(deployment)] == ["ProxyActor"]


def test_infer_answers_older_clients_with_a_list_of_one_text() -> None:
    answer = httpx.get(URL + "/infer", params={"sentence": "Hello", "max_tokens": 3}, headers={"x-api-key": KEY}, timeout=60)
    (text,) = answer.raise_for_status().json()
    assert isinstance(text, str)


def test_the_model_is_listed_with_its_description(official: openai.OpenAI) -> None:
    (model,) = official.models.list()
    assert model.id == "mistral"
    assert model.model_dump()["description"] == DESCRIPTION


def test_probes_need_no_key_and_all_other_requests_do() -> None:
    assert httpx.get(URL + "/readyz", timeout=60).json() == {"status": "ready"}
    assert httpx.get(URL + "/healthz", timeout=60).json() == {"status": "ok"}
    refused = httpx.post(URL + "/v1/completions", json={"prompt": "x"}, headers={"Authorization": "Bearer other"}, timeout=60)
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"


def test_a_request_that_can_never_be_answered_is_refused_by_name(official: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        official.completions.create(model="mistral", prompt="word " * 3000)
    assert caught.value.code == "context_length_exceeded"


def test_five_hundred_streams_at_once_on_one_engine_are_all_complete_and_right(alone: Alone) -> None:
    prompts = [f"Question {number % WORDS}" for number in range(MANY)]

    async def go() -> list[Stream]:
        async with client() as http:
            http.timeout = httpx.Timeout(600)
            return await asyncio.gather(*(stream(http, prompt, 8) for prompt in prompts))

    streams = asyncio.run(go())
    assert [got for got in streams if not got.done or got.error] == []
    assert [got.tokens for got in streams] == [alone(prompt, 8) for prompt in prompts]
