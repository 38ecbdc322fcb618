"""The API refuses wrong requests before any work, and names the parameter in OpenAI's error format."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import httpx
import pytest
from api_service import LIMITS, SETTINGS, StandIn, served, tokenizer

from serving.api.bodies import ChatBody, ChatMessage
from serving.api.middleware import MOST_BYTES
from serving.api.prompts import Prompts
from serving.engines.contract import NotReady

CHAT: Any = {"messages": [{"role": "user", "content": "Hello?"}]}
TEXT: Any = {"prompt": "Once"}
KEY = "key-of-the-service"


def refused(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """Return the error of a refusal, after a check of its format."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"]) < 300
    return dict(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2), ("n", True), ("logit_bias", {"1": 5}), ("presence_penalty", 0.1), ("frequency_penalty", -1), ("stream_options", {"x": 1}),
        ("temperature", 2.1), ("temperature", "hot"), ("temperature", True), ("top_p", 0), ("top_p", 1.5), ("top_k", -2), ("top_k", 1.5),
        ("seed", 2**63), ("seed", "1"), ("stop", ""), ("stop", ["a"] * 5), ("stop", [""]), ("stop", 1), ("stream", "yes"),
        ("max_tokens", 0), ("max_tokens", 101), ("max_tokens", "9"), ("return_token_ids", 1), ("min_p", 0.1), ("best", 0), ("user", 1),
        ("ignore_eos", True),
        ("metadata", "x"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)], ids=["chat", "completions"])
def test_a_parameter_that_both_endpoints_refuse_is_named(
    client: httpx.Client, engine: StandIn, path: str, body: Any, name: str, value: Any
) -> None:
    error = refused(client.post(path, json=body | {name: value}))
    assert error["param"].split(".")[0] == name
    assert name in error["message"]
    assert error["type"] == "invalid_request_error"
    assert engine.requests == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", True), ("top_logprobs", 2), ("tools", [{"type": "function"}]), ("tool_choice", "auto"), ("functions", [{"name": "f"}]),
        ("function_call", "auto"), ("response_format", {"type": "json_object"}), ("modalities", ["audio"]), ("audio", {"voice": "x"}),
        ("prediction", {}), ("reasoning_effort", "low"), ("web_search_options", {}), ("store", True), ("echo", False), ("suffix", ""),
        ("max_completion_tokens", 0), ("prompt", "x"),
    ],
)  # fmt: skip
def test_a_parameter_that_the_chat_does_not_support_is_named(client: httpx.Client, engine: StandIn, name: str, value: Any) -> None:
    error = refused(client.post("/v1/chat/completions", json=CHAT | {name: value}))
    assert error["param"] == name
    assert engine.requests == []


@pytest.mark.parametrize(
    ("name", "value"), [("best_of", 2), ("echo", True), ("logprobs", 0), ("suffix", "x"), ("messages", []), ("tools", [])]
)
def test_a_parameter_that_completions_do_not_support_is_named(client: httpx.Client, engine: StandIn, name: str, value: Any) -> None:
    assert refused(client.post("/v1/completions", json=TEXT | {name: value}))["param"] == name
    assert engine.requests == []


def test_null_and_neutral_values_count_as_not_given(client: httpx.Client) -> None:
    both: Any = dict.fromkeys(["model", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "stream", "stream_options", "user"])
    both |= {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "metadata": {"a": "b"}, "return_token_ids": None}
    chat: Any = {"logprobs": False, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "modalities": ["text"]}
    chat |= {
        "audio": None,
        "functions": None,
        "store": False,
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "reasoning_effort": None,
    }
    text: Any = {"best_of": 1, "echo": False, "suffix": None, "logprobs": None}
    assert client.post("/v1/chat/completions", json=CHAT | both | chat).status_code == 200
    assert client.post("/v1/completions", json=TEXT | both | text).status_code == 200


@pytest.mark.parametrize(
    ("messages", "param", "word"),
    [
        ([], "messages", "at least one"),
        ("Hello", "messages", "list"),
        ([{"role": "tool", "content": "x"}], "messages.0.role", "user"),
        ([{"role": "user"}], "messages.0.content", "required"),
        ([{"role": "user", "content": None}], "messages.0.content", "text"),
        ([{"role": "user", "content": {"text": "x"}}], "messages.0.content", "text"),
        ([{"role": "user", "content": []}], "messages.0.content", "text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "messages.0.content.0", "of type text"),
        ([{"role": "user", "content": [{"type": "image", "text": "x"}]}], "messages.0.content.0", "of type text"),
        ([{"role": "user", "content": [{"type": "text", "text": "x", "y": 1}]}], "messages.0.content.0.y", "not a known"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0.text", "required"),
        ([{"role": "user", "content": "x", "name": 1}], "messages.0.name", "string"),
        ([{"role": "user", "content": "x", "weight": 1}], "messages.0.weight", "not a known"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "system", "content": "z"},
          {"role": "user", "content": "x"}], "messages", "xpected"),
        ([{"role": "assistant", "content": "y", "tool_calls": [{}]}], "messages.0.tool_calls", "not supported"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "messages", "last"),
        ([{"role": "assistant", "content": "y"}], "messages", "last"),
        ([{"role": "system", "content": "y"}], "messages", "last"),
    ],
)  # fmt: skip
def test_an_invalid_conversation_is_refused_with_the_place_of_the_error(
    client: httpx.Client, engine: StandIn, messages: Any, param: str, word: str
) -> None:
    error = refused(client.post("/v1/chat/completions", json={"messages": messages}))
    assert error["param"] == param
    assert word in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(
    "prompt", [None, [], ["a", "b"], [["a"]], [[]], [[1], [2]], [1, "a"], [-1], [LIMITS.vocabulary], [1.5], {"a": 1}, True]
)
def test_a_prompt_of_another_type_than_one_text_is_refused(client: httpx.Client, engine: StandIn, prompt: Any) -> None:
    error = refused(client.post("/v1/completions", json={"prompt": prompt}))
    assert error["param"].split(".")[0] == "prompt"
    assert engine.requests == []


def test_half_of_a_surrogate_pair_is_refused(client: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    error = refused(client.post("/v1/completions", content=b'{"prompt": "x\\ud800"}', headers=headers))
    assert "surrogate" in error["message"]
    inner = b'{"messages": [{"role": "user", "content": "\\udc00"}]}'
    assert "surrogate" in refused(client.post("/v1/chat/completions", content=inner, headers=headers))["message"]


@pytest.mark.parametrize(
    ("content", "param"),
    [(b'{"prompt": "x", "\\ud800": 1}', "\\ud800"), (b'{"prompt": "x", "stream_options": {"\\ud800": 1}}', "stream_options.\\ud800")],
)
def test_half_of_a_surrogate_pair_in_a_name_is_repeated_with_an_escape(client: httpx.Client, content: bytes, param: str) -> None:
    error = refused(client.post("/v1/completions", content=content, headers={"content-type": "application/json"}))
    assert error["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": [5] * 151}, "prompt"),
        ("/v1/completions", {"prompt": "word " * 160}, "prompt"),
        ("/v1/completions", {"prompt": "word " * 100_000}, "prompt"),
        ("/v1/completions", {"prompt": [5] * 150, "max_tokens": 51}, "prompt"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 150}]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 100_000}]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 120}], "max_completion_tokens": 90}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": ""}] * 200}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 200}]}, "messages"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_both_numbers(
    client: httpx.Client, engine: StandIn, path: str, body: Any, param: str
) -> None:
    error = refused(client.post(path, json=body))
    assert (error["param"], error["code"]) == (param, "context_length_exceeded")
    assert sum(char.isdigit() for char in error["message"]) >= 5
    assert "word" not in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(("turns", "apart"), [(3, False), (99, True)])
def test_a_conversation_that_takes_long_to_encode_delays_no_stream(monkeypatch: pytest.MonkeyPatch, turns: int, apart: bool) -> None:
    encode, threads = tokenizer().chat, list[threading.Thread]()

    def chat(messages: Any) -> list[int]:
        threads.append(threading.current_thread())
        return encode(messages)

    monkeypatch.setattr(tokenizer(), "chat", chat)
    prompts = Prompts(StandIn(), tokenizer(), SETTINGS)
    asyncio.run(prompts.prepare_chat(ChatBody(messages=[ChatMessage(role="user", content="")] * turns)))
    assert (threads != [threading.main_thread()]) == apart


def test_without_a_requested_length_an_answer_may_use_all_remaining_positions(client: httpx.Client, engine: StandIn) -> None:
    assert client.post("/v1/completions", json={"prompt": [5] * 150, "stop": "Gr"}).status_code == 200
    assert engine.requests[0].max_tokens == 50


def test_a_prompt_that_is_too_short_for_the_engine_is_refused(client: httpx.Client) -> None:
    engine = StandIn()
    engine.limits = replace(LIMITS, min_prompt=2)
    with served(engine) as service:
        error = refused(httpx.post(f"{service.v1}/completions", json={"prompt": [5]}, timeout=60))
    assert (error["param"], "at least 2" in error["message"]) == ("prompt", True)


def test_two_values_of_one_parameter_and_stream_options_without_a_stream_are_refused(client: httpx.Client) -> None:
    both = CHAT | {"max_tokens": 5, "max_completion_tokens": 6}
    assert refused(client.post("/v1/chat/completions", json=both))["param"] == "max_completion_tokens"
    options = TEXT | {"stream_options": {"include_usage": True}}
    assert refused(client.post("/v1/completions", json=options))["param"] == "stream_options"


def test_a_model_of_another_name_is_not_found(client: httpx.Client, engine: StandIn) -> None:
    error = refused(client.post("/v1/completions", json=TEXT | {"model": "gpt-4"}), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'mistral'" in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b'{"prompt": 1' + b"0" * 5000 + b"}"])
def test_a_body_that_is_not_a_json_object_is_refused(client: httpx.Client, content: bytes) -> None:
    refused(client.post("/v1/completions", content=content, headers={"content-type": "application/json"}))


def test_a_body_in_another_encoding_is_refused_with_the_right_one(client: httpx.Client) -> None:
    error = refused(
        client.post("/v1/completions", content='{"prompt": "ä"}'.encode("latin-1"), headers={"content-type": "application/json"})
    )
    assert ("UTF-8" in error["message"], error["code"]) == (True, "invalid_value")


def test_json_with_another_content_type_is_refused_with_the_right_one(client: httpx.Client) -> None:
    error = refused(client.post("/v1/completions", content=json.dumps(TEXT)))
    assert "application/json" in error["message"]


def test_a_long_unknown_name_is_shortened_in_the_message(client: httpx.Client) -> None:
    error = refused(client.post("/v1/completions", json=TEXT | {"x" * 10_000: 1}))
    assert len(error["param"]) < 100


def test_many_errors_in_one_body_give_one_short_refusal(client: httpx.Client) -> None:
    flood = {f"{n:x}": 0 for n in range(300_000)}
    refused(client.post("/v1/completions", json=TEXT | flood))
    refused(client.post("/v1/completions", json={"prompt": [""] * 500_000}))
    refused(client.post("/v1/chat/completions", json={"messages": [0] * 500_000}))


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_not_read(client: httpx.Client, declared: bool) -> None:
    content = b" " * (MOST_BYTES + 1)
    sent: Any = content if declared else (content[at : at + 65536] for at in range(0, len(content), 65536))
    refused(client.post("/v1/completions", content=sent, headers={"content-type": "application/json"}), 413)


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0"])
def test_a_request_that_asks_for_an_upgrade_learns_why_its_body_was_lost(client: httpx.Client, upgrade: str) -> None:
    """The body never reaches the API: after the headers of such a request, uvicorn's parser stops reading."""
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    assert "HTTP_1_1" in refused(client.post("/v1/completions", json=TEXT, headers=headers))["message"]
    assert client.get("/v1/models", headers=headers).status_code == 200  # by another connection: the first one is closed


def test_a_large_body_within_the_limit_is_read(client: httpx.Client, engine: StandIn) -> None:
    assert client.post("/v1/completions", json=TEXT | {"user": "x" * (MOST_BYTES - 1000)}).status_code == 200


def test_a_wrong_path_and_a_wrong_method_have_openais_error_format(client: httpx.Client) -> None:
    assert refused(client.get("/v2/x"), 404)["code"] == "unknown_url"
    response = client.get("/v1/completions")
    refused(response, 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("query", "named"),
    [("", "sentence"), ("?sentence=", "sentence"), ("?sentence=a&max_tokens=0", "max_tokens"), ("?sentence=a&max_tokens=101", "max_tokens"),
     ("?sentence=a&max_tokens=many", "max_tokens")],
)  # fmt: skip
def test_infer_refuses_in_openais_error_format(client: httpx.Client, engine: StandIn, query: str, named: str) -> None:
    assert refused(client.get(f"/infer{query}"))["param"] == named
    assert engine.requests == []


def test_a_key_is_accepted_in_either_header_and_probes_need_none(engine: StandIn) -> None:
    with served(engine, replace(SETTINGS, api_key=KEY)) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        assert client.get("/v1/models", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
        assert client.get("/infer?sentence=a", headers={"x-api-key": KEY}).status_code == 200
        # A proxy that uses Authorization for itself forwards the key like this.
        assert client.get("/v1/models", headers={"authorization": "Basic eA==", "x-api-key": KEY}).status_code == 200
        # OpenAI's client, which requires a key of its own, sends it like this.
        assert client.get("/v1/models", headers={"authorization": "Bearer none", "x-api-key": KEY}).status_code == 200
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert client.get(path).status_code == 200
        wrong: list[dict[str, str]] = [{}, {"authorization": KEY}, {"authorization": f"Basic {KEY}"}, {"x-api-key": KEY + "x"}]
        for headers in (*wrong, {"authorization": "Bearer"}, {"authorization": "Bearer é"}):
            response = client.get("/v1/models", headers={name: value.encode() for name, value in headers.items()})
            assert refused(response, 401)["code"] == "invalid_api_key"
            assert KEY not in response.text
        assert refused(client.post("/v1/completions", content=b"{"), 401)
        assert refused(client.get("/nothing"), 401)


def test_the_api_is_healthy_at_once_and_ready_when_the_engine_is(client: httpx.Client) -> None:
    engine = StandIn()
    engine.down = NotReady("the engine is starting")
    with served(engine) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        for response in (client.get("/readyz"), client.post("/v1/completions", json=TEXT), client.get("/infer?sentence=a")):
            assert refused(response, 503)["message"] == "the engine is starting"
            assert response.headers["retry-after"]
        engine.down = None
        assert client.get("/readyz").json() == {"status": "ready"}
        assert client.post("/v1/completions", json=TEXT).status_code == 200
        engine.down = NotReady("the engine is broken")
        assert client.get("/readyz").status_code == 503


def test_an_engine_that_does_not_reply_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(StandIn):
        async def ready(self) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr("serving.api.prompts.READY_WITHIN_S", 0.05)
    with served(Silent()) as service:
        assert "does not answer" in refused(httpx.get(f"{service.url}/readyz", timeout=60), 503)["message"]


def test_the_engine_is_asked_for_its_limits_before_the_first_request(client: httpx.Client) -> None:
    engine = StandIn()
    with served(engine) as service:
        engine.down = NotReady("the engine does not answer")
        assert httpx.post(f"{service.v1}/completions", json=TEXT, timeout=60).status_code == 200


def test_known_limits_are_not_asked_for_again(client: httpx.Client, engine: StandIn) -> None:
    assert client.post("/v1/completions", json=TEXT).status_code == 200
    engine.down = NotReady("the engine is broken")
    # The answer itself shows whether there is an engine.
    assert client.post("/v1/completions", json=TEXT).status_code == 200
