"""OpenAI's own client, unchanged, against the API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import openai
import pytest
from api_service import SETTINGS, WORDS, Service, StandIn, served, tokenizer, tokens_of
from openai.types import completion_create_params as text_params
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionStreamOptionsParam,
    ChatCompletionUserMessageParam,
)
from openai.types.chat import completion_create_params as chat_params
from pydantic import BaseModel

from serving.api.bodies import ChatBody, ChatMessage, CompletionBody, StreamOptions, TextPart
from serving.engines.contract import DeadlineExceeded, GenerationFailed, NotReady, QueueFull, Sampling, Unfit
from serving.tokenizer import Message

ASKED: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[StandIn, Service, openai.OpenAI]]:
    engine = StandIn()
    with served(engine) as service, openai.OpenAI(base_url=service.v1, api_key="any", max_retries=0) as client:
        yield engine, service, client


@pytest.fixture
def engine(running: tuple[StandIn, Service, openai.OpenAI]) -> StandIn:
    running[0].forget()
    return running[0]


@pytest.fixture
def service(running: tuple[StandIn, Service, openai.OpenAI]) -> Service:
    return running[1]


@pytest.fixture
def client(running: tuple[StandIn, Service, openai.OpenAI], engine: StandIn) -> openai.OpenAI:
    return running[2]


def test_a_chat_answer_has_text_finish_reason_and_usage(client: openai.OpenAI, engine: StandIn) -> None:
    answer = client.chat.completions.create(model="mistral", messages=ASKED)
    assert answer.choices[0].message.content == WORDS
    assert (answer.choices[0].message.role, answer.choices[0].finish_reason) == ("assistant", "stop")
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer._request_id is None, "Serve's proxy adds one: of two the client would make a third"
    prompt = tokenizer().chat([Message("system", "Be brief."), Message("user", "Hello?")])
    assert engine.requests[0].prompt == tuple(prompt)
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), len(engine.tokens))
    assert answer.usage.total_tokens == len(prompt) + len(engine.tokens)


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        (chat_params.CompletionCreateParamsStreaming, ChatBody), (text_params.CompletionCreateParamsStreaming, CompletionBody),
        (ChatCompletionStreamOptionsParam, StreamOptions), (ChatCompletionContentPartTextParam, TextPart),
        (ChatCompletionUserMessageParam, ChatMessage), (ChatCompletionAssistantMessageParam, ChatMessage),
    ],
    ids=lambda kind: kind.__name__,
)  # fmt: skip
def test_every_parameter_of_the_client_is_known(known: Any, taken: type[BaseModel]) -> None:
    assert set(get_type_hints(known)) <= set(taken.model_fields)


@pytest.mark.parametrize("together", [1, 2, 1000])
def test_a_streamed_chat_has_the_same_answer(client: openai.OpenAI, engine: StandIn, together: int) -> None:
    engine.together = together
    with client.chat.completions.create(model="mistral", messages=ASKED, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    first, *_, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == WORDS
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert not last.choices[0].delta.content
    assert usage.choices == []
    assert usage.usage
    assert usage.usage.completion_tokens == len(engine.tokens)
    assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1


def test_a_stream_has_a_chunk_for_each_piece(client: openai.OpenAI, engine: StandIn) -> None:
    chunks = list(client.chat.completions.create(model="mistral", messages=ASKED, stream=True))
    assert len(chunks) == 1 + len(engine.tokens) + 1
    assert all("\N{REPLACEMENT CHARACTER}" not in (chunk.choices[0].delta.content or "") for chunk in chunks)


def test_an_earlier_answer_is_accepted_as_part_of_the_conversation(client: openai.OpenAI, engine: StandIn) -> None:
    first = client.chat.completions.create(model="mistral", messages=ASKED).choices[0].message
    more: Any = [*ASKED, first, {"role": "user", "content": "Go on."}]
    client.chat.completions.create(model="mistral", messages=more)
    more[2] = first.model_dump()
    client.chat.completions.create(model="mistral", messages=more)
    said = [Message("system", "Be brief."), Message("user", "Hello?"), Message("assistant", WORDS), Message("user", "Go on.")]
    assert engine.requests[1].prompt == engine.requests[2].prompt == tuple(tokenizer().chat(said))


def test_content_may_have_parts_and_the_developer_role_is_the_system_role(client: openai.OpenAI, engine: StandIn) -> None:
    parts: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
    ]
    client.chat.completions.create(model="mistral", messages=parts)
    prompt = tokenizer().chat([Message("system", "Be brief."), Message("user", ("One.", "Two."))])
    assert engine.requests[0].prompt == tuple(prompt)


def test_parameters_that_shape_an_answer_reach_the_engine(client: openai.OpenAI, engine: StandIn) -> None:
    client.chat.completions.create(
        model="mistral", messages=ASKED, temperature=0.5, top_p=0.9, seed=7, max_tokens=3, extra_body={"top_k": 40}
    )
    client.chat.completions.create(model="mistral", messages=ASKED, temperature=0, seed=-1, max_completion_tokens=4)
    client.chat.completions.create(model="mistral", messages=ASKED)
    first, second, third = engine.requests
    assert first.sampling == Sampling(temperature=0.5, top_p=0.9, top_k=40, seed=7)
    assert second.sampling == Sampling(temperature=0.0, seed=2**64 - 1)
    assert third.sampling == Sampling()
    assert (first.max_tokens, second.max_tokens, third.max_tokens) == (3, 4, SETTINGS.max_tokens)
    assert first.within_s == SETTINGS.deadline_s
    assert len({first.id, second.id, third.id}) == 3


def test_an_answer_of_the_requested_length_has_the_finish_reason_length(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="mistral", messages=ASKED, max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens == 5


@pytest.mark.parametrize("together", [1, 3, 1000])
@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (" for all", "Grüße, 酒 and 👩‍👩‍👧"),
        (["never", "酒"], "Grüße, "),
        (["and 👩", "nd"], "Grüße, 酒 a"),
        (["Grüße"], ""),
        ([".", "hree"], "Grüße, 酒 and 👩‍👩‍👧 for all: one two t"),
    ],
)
def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(
    client: openai.OpenAI, engine: StandIn, stop: Any, text: str, together: int
) -> None:
    engine.together = together
    whole = client.chat.completions.create(model="mistral", messages=ASKED, stop=stop)
    stream = list(client.chat.completions.create(model="mistral", messages=ASKED, stop=stop, stream=True))
    assert whole.choices[0].message.content == text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text
    assert whole.choices[0].finish_reason == stream[-1].choices[0].finish_reason == "stop"
    # The number of tokens up to the stop string, however they were grouped into pieces.
    engine.together = 1
    one_by_one = client.chat.completions.create(model="mistral", messages=ASKED, stop=stop)
    assert whole.usage == one_by_one.usage
    assert engine.live == 0


def test_a_stop_string_that_does_not_come_changes_nothing(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="mistral", messages=ASKED, stop=["three.!", "酒 and 👩‍👩‍👧‍"])
    assert answer.choices[0].message.content == WORDS


def test_token_ids_are_returned_on_request(client: openai.OpenAI, engine: StandIn) -> None:
    ids: Any = {"return_token_ids": True}
    chat = client.chat.completions.create(model="mistral", messages=ASKED, extra_body=ids)
    text = client.completions.create(model="mistral", prompt="x", extra_body=ids)
    stream = list(client.completions.create(model="mistral", prompt="x", stream=True, extra_body=ids))
    assert chat.choices[0].model_dump()["token_ids"] == engine.tokens
    assert text.choices[0].model_dump()["token_ids"] == engine.tokens
    assert [id for chunk in stream for id in chunk.choices[0].model_dump()["token_ids"]] == engine.tokens
    assert "token_ids" not in client.completions.create(model="mistral", prompt="x").choices[0].model_dump()


@pytest.mark.parametrize("prompt", ["Once upon a time", ["Once upon a time"], tokenizer().completion("Once upon a time")])
def test_a_prompt_may_be_a_text_a_list_of_one_text_or_tokens(client: openai.OpenAI, engine: StandIn, prompt: Any) -> None:
    answer = client.completions.create(model="mistral", prompt=prompt)
    assert engine.requests[0].prompt == tuple(tokenizer().completion("Once upon a time"))
    # A continuation: the first word keeps its space.
    assert answer.choices[0].text == " " + WORDS
    assert (answer.object, answer.choices[0].finish_reason) == ("text_completion", "stop")


def test_a_streamed_completion_has_the_same_text(client: openai.OpenAI) -> None:
    stream = client.completions.create(model="mistral", prompt="Once", stream=True, stream_options={"include_usage": True})
    *chunks, usage = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == " " + WORDS
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert usage.usage
    assert usage.usage.completion_tokens == len(tokens_of(WORDS))


def test_after_an_empty_prompt_the_first_word_has_no_space(client: openai.OpenAI) -> None:
    assert client.completions.create(model="mistral", prompt="").choices[0].text == WORDS


def test_the_model_can_be_listed_and_retrieved(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["mistral"]
    assert client.models.retrieve("mistral").id == "mistral"
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.models.retrieve("gpt")


def test_a_model_has_the_description_of_its_checkpoint(engine: StandIn, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"description": "All noise."}')
    with served(engine, replace(SETTINGS, model=tmp_path)) as service, openai.OpenAI(base_url=service.v1, api_key="any") as client:
        (model,) = client.models.list()
        assert model.to_dict()["description"] == "All noise."


def test_a_models_name_may_contain_a_slash(engine: StandIn) -> None:
    named = replace(SETTINGS, model_name="mistralai/Mistral-7B")
    with served(engine, named) as service, openai.OpenAI(base_url=service.v1, api_key="any") as client:
        assert client.models.retrieve("mistralai/Mistral-7B").id == "mistralai/Mistral-7B"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "raised", "code"),
    [
        (QueueFull("512 requests wait already"), openai.RateLimitError, "queue_full"),
        (NotReady("the engine is starting"), openai.InternalServerError, "not_ready"),
        (DeadlineExceeded("30 s are over"), openai.InternalServerError, "deadline_exceeded"),
        (GenerationFailed("the engine failed after 0 tokens"), openai.InternalServerError, "generation_failed"),
        (Unfit("the prompt has 9 tokens; at most 8 can be taken"), openai.BadRequestError, "context_length_exceeded"),
    ],
)
def test_an_engines_error_raises_the_matching_exception_in_the_client(
    client: openai.OpenAI, engine: StandIn, failure: Exception, raised: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    engine.fail(failure)
    with pytest.raises(raised, match=str(failure)) as caught:
        client.chat.completions.create(model="mistral", messages=ASKED, stream=stream)
    assert caught.value.code == code
    assert ("retry-after" in caught.value.response.headers) == (code in ("queue_full", "not_ready"))


def test_an_unexpected_failure_reveals_no_details(client: openai.OpenAI, engine: StandIn) -> None:
    engine.fail(RuntimeError("secret path /opt/x"))
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="mistral", messages=ASKED)
    assert "secret" not in caught.value.response.text
    assert caught.value.body["type"] == "server_error"  # type: ignore[index]


@pytest.mark.parametrize("failure", [GenerationFailed("the engine failed after 3 tokens"), RuntimeError("secret path /opt/x")])
def test_a_failure_in_the_middle_of_a_stream_raises_in_the_client_after_the_tokens(
    client: openai.OpenAI, engine: StandIn, failure: Exception
) -> None:
    engine.fail(failure, after=3)
    stream, got = client.chat.completions.create(model="mistral", messages=ASKED, stream=True), list[Any]()
    with pytest.raises(openai.APIError) as caught:
        got.extend(stream)
    assert len(got) == 1 + 3
    assert not isinstance(caught.value, openai.APIStatusError)
    assert ("after 3 tokens" in caught.value.message) == isinstance(failure, GenerationFailed)
    assert "secret" not in caught.value.message
    assert caught.value.type == "server_error"


def test_an_answer_without_streaming_that_fails_midway_is_an_error(client: openai.OpenAI, engine: StandIn) -> None:
    engine.fail(DeadlineExceeded("30 s are over"), after=3)
    with pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model="mistral", prompt="x")
    assert caught.value.status_code == 504


def test_an_answer_that_ends_without_a_finish_reason_is_a_failure(client: openai.OpenAI, engine: StandIn) -> None:
    class Ends(StandIn):
        async def _pieces(self, request: Any) -> Any:
            async for piece in super()._pieces(request):
                if not piece.finish:
                    yield piece

    with served(Ends()) as service, openai.OpenAI(base_url=service.v1, api_key="any", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError):
            client.completions.create(model="mistral", prompt="x")
        with pytest.raises(openai.APIError, match="without saying why"):
            list(client.completions.create(model="mistral", prompt="x", stream=True))


def test_with_a_key_only_requests_that_have_it_are_answered(engine: StandIn) -> None:
    with served(engine, replace(SETTINGS, api_key="schlüssel-1")) as service:
        with openai.OpenAI(base_url=service.v1, api_key="wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.response.headers["www-authenticate"] == "Bearer"
        assert "schl" not in caught.value.response.text
        assert "wrong-key" not in caught.value.response.text
    with served(engine, replace(SETTINGS, api_key="key-1")) as service, openai.OpenAI(base_url=service.v1, api_key="key-1") as client:
        assert client.completions.create(model="mistral", prompt="x").choices[0].text
