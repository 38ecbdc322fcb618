"""The same request in the many forms in which clients send it gets the same answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from api_service import SETTINGS, StandIn, served, tokenizer
from openai import OpenAI

from serving.sse import MEDIA_TYPE

ASKED: Any = [{"role": "user", "content": "Hello?"}]
NULLS = (
    "parsed",
    "reasoning_content",
    "reasoning",
    "provider_specific_fields",
    "thinking_blocks",
    "audio",
    "annotations",
    "refusal",
    "name",
)
"""Fields that clients' own objects of an answer have, with null, when they are put back into the conversation."""


def chat(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"messages": ASKED, **body})


@pytest.mark.parametrize("field", [*NULLS, "of_a_client_to_come"])
def test_a_field_with_null_is_not_given_known_or_not(client: httpx.Client, engine: StandIn, field: str) -> None:
    before: Any = [*ASKED, {"role": "assistant", "content": "Yes.", field: None}]
    assert chat(client, messages=[*before, *ASKED]).status_code == 200
    assert chat(client, **{field: None}).status_code == 200
    assert client.post("/v1/completions", json={"prompt": "Once", field: None}).status_code == 200
    assert engine.requests[0].prompt == tuple(tokenizer_chat([*ASKED, {"role": "assistant", "content": "Yes."}, *ASKED]))


def tokenizer_chat(messages: Any) -> list[int]:
    from serving.tokenizer import Message

    return tokenizer().chat([Message(one["role"], one["content"]) for one in messages])


@pytest.mark.parametrize("way", ["create", "stream", "parse"])
def test_an_answer_object_of_openais_client_goes_back_as_it_is(client: httpx.Client, way: str) -> None:
    openai = OpenAI(base_url=f"{client.base_url}/v1", api_key="none")
    messages = list(ASKED)
    for _ in range(2):
        if way == "stream":
            with openai.chat.completions.stream(model="mistral", messages=messages) as stream:
                answer: Any = stream.get_final_completion()
        else:
            answer = getattr(openai.chat.completions, way)(model="mistral", messages=messages)
        messages += [answer.choices[0].message, *ASKED]
    assert answer.choices[0].message.content


def test_an_answer_that_ended_at_once_does_not_end_the_conversation(client: httpx.Client, engine: StandIn) -> None:
    engine.tokens = []
    answer = chat(client).json()["choices"][0]["message"]
    assert answer["content"] == ""
    assert chat(client, messages=[*ASKED, answer, *ASKED]).status_code == 200
    # What the model itself wrote: the end of its turn, right after the question.
    end = tokenizer_chat([*ASKED, {"role": "assistant", "content": "x"}, *ASKED])
    x = end.index(2)
    assert engine.requests[-1].prompt == tuple(end[: x - 1] + end[x:])


def test_a_name_of_who_speaks_changes_nothing(client: httpx.Client, engine: StandIn) -> None:
    assert chat(client).status_code == chat(client, messages=[ASKED[0] | {"name": "Ada"}]).status_code == 200
    assert engine.requests[0].prompt == engine.requests[1].prompt


def test_an_empty_list_of_stop_strings_is_none(client: httpx.Client) -> None:
    assert chat(client, stop=[]).json()["choices"][0]["message"] == chat(client).json()["choices"][0]["message"]


def test_one_prompt_of_token_ids_may_be_in_a_list(client: httpx.Client, engine: StandIn) -> None:
    assert client.post("/v1/completions", json={"prompt": [[1, 5, 6]]}).status_code == 200
    assert engine.requests[0].prompt == (1, 5, 6)


def test_both_names_of_the_length_may_have_one_value(client: httpx.Client, engine: StandIn) -> None:
    assert chat(client, max_tokens=3, max_completion_tokens=3).json()["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", {"messages": ASKED}), ("/v1/completions", {"prompt": "Once"})])
def test_every_chunk_has_the_number_of_tokens_so_far_when_that_is_asked_for(client: httpx.Client, path: str, body: Any) -> None:
    import json

    options = {"include_usage": True, "continuous_usage_stats": True}
    response = client.post(path, json={**body, "stream": True, "max_tokens": 4, "stream_options": options})
    assert response.headers["content-type"].startswith(MEDIA_TYPE)
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == [*([0] if "chat" in path else []), 1, 2, 3, 4, 4, 4]
    assert {chunk["usage"]["total_tokens"] - chunk["usage"]["completion_tokens"] for chunk in chunks} == {
        chunks[0]["usage"]["prompt_tokens"]
    }
    assert chunks[-1]["choices"] == []
    without = client.post(path, json={**body, "stream": True, "stream_options": {"include_usage": False, "continuous_usage_stats": True}})
    assert "usage" not in without.text


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/mistral", "/healthz", "/readyz"])
def test_head_is_answered_like_get_without_a_body(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_a_slash_at_the_end_of_a_path_changes_nothing(client: httpx.Client) -> None:
    assert client.post("/v1/chat/completions/", json={"messages": ASKED}, follow_redirects=False).status_code == 200
    assert client.get("/v1/models/", follow_redirects=False).json()["data"][0]["id"] == "mistral"


def test_the_longest_answer_and_the_number_of_positions_are_part_of_the_model(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["max_completion_tokens"], model["max_model_len"]) == (SETTINGS.max_tokens, SETTINGS.positions)


PREFLIGHT = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize("origins", ["*", "https://a.example, http://localhost:3000"])
def test_a_browser_is_served_from_the_origins_of_the_setting(engine: StandIn, origins: str) -> None:
    settings = replace(SETTINGS, allowed_origins=origins, api_key="key-1")
    with served(engine, settings) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        allowed = client.options("/v1/chat/completions", headers=PREFLIGHT)
        assert (allowed.status_code, allowed.headers["access-control-allow-headers"]) == (200, "authorization")
        for key, status in (("key-1", 200), ("wrong", 401)):
            headers = {"Origin": PREFLIGHT["Origin"], "Authorization": f"Bearer {key}"}
            answer = client.post("/v1/chat/completions", json={"messages": ASKED}, headers=headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"] in (PREFLIGHT["Origin"], "*")) == (status, True)


def test_a_browser_is_refused_from_other_origins_and_without_the_setting(client: httpx.Client, engine: StandIn) -> None:
    assert client.options("/v1/chat/completions", headers=PREFLIGHT).status_code == 405
    with served(engine, replace(SETTINGS, allowed_origins="https://a.example")) as service:
        assert httpx.options(f"{service.v1}/chat/completions", headers=PREFLIGHT, timeout=60).status_code == 400
