"""The HTTP side of the service, with a model of a few lines in place of the real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence

import pytest
from fastapi.testclient import TestClient

from serving import api
from serving.generation import Generator, PromptTooLong
from serving.settings import Settings
from serving.sse import Decoder, Event
from serving.text import GrowingText

SETTINGS = Settings(stream_tokens_per_s=1000.0, max_tokens=32, max_prompt_tokens=100, max_sentence=500)


class Counting:
    """Counts up from the length of the prompt; ends or breaks after so many tokens when told to."""

    def __init__(self, ends_after: int | None = None, breaks_after: int | None = None) -> None:
        self.ends_after = ends_after
        self.breaks_after = breaks_after
        self.computed = 0

    def tokens(self, prompt: Sequence[int], limit: int) -> Iterator[int]:
        for n in range(limit):
            if n == self.ends_after:
                return
            if n == self.breaks_after:
                raise RuntimeError("secret path /opt/x")
            self.computed += 1
            yield len(prompt) + n


class Letters:
    """A token a character, and a token's text is its number."""

    def prompt(self, sentence: str) -> list[int]:
        return list(range(len(sentence)))

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(f"{token}." for token in tokens)


def client(model: Counting | None = None) -> TestClient:
    return TestClient(api.build(Generator(model or Counting(), Letters(), SETTINGS), SETTINGS), raise_server_exceptions=False)


def events(body: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for line in body.splitlines(keepends=True) if (event := decoder.feed(line))]


def test_an_answer_has_its_text_its_tokens_and_why_it_ended() -> None:
    response = client().get("/infer", params={"sentence": "abc", "max_tokens": 4})
    assert response.status_code == 200
    assert response.json() == {"text": "3.4.5.6.", "tokens": [3, 4, 5, 6], "finish_reason": "length"}


def test_an_answer_that_the_model_ends_says_so() -> None:
    assert client(Counting(ends_after=2)).get("/infer?sentence=abc").json()["finish_reason"] == "stop"


def test_a_stream_is_one_event_a_token_and_ends_with_done() -> None:
    response = client().get("/infer/stream", params={"sentence": "abc", "max_tokens": 3})
    assert response.headers["content-type"].startswith("text/event-stream")
    *tokens, finish, done = events(response.content)
    assert [event.json() for event in tokens] == [{"token": 3, "text": "3."}, {"token": 4, "text": "4."}, {"token": 5, "text": "5."}]
    assert finish.json()["finish_reason"] == "length"
    assert done.last


def test_a_stream_and_an_answer_have_the_same_tokens() -> None:
    whole = client().get("/infer?sentence=hello&max_tokens=7").json()["tokens"]
    stream = events(client().get("/infer/stream?sentence=hello&max_tokens=7").content)
    assert [e.json()["token"] for e in stream if not e.last and "token" in e.json()] == whole


def test_a_failure_in_mid_stream_is_told_in_the_stream_without_done_or_inner_detail() -> None:
    *tokens, last = events(client(Counting(breaks_after=2)).get("/infer/stream?sentence=abc").content)
    assert len(tokens) == 2
    assert last.name == "error"
    assert "RuntimeError after 2 tokens" in last.data
    assert "secret" not in last.data


def test_a_failure_of_the_model_fails_a_short_request() -> None:
    assert client(Counting(breaks_after=2)).get("/infer?sentence=abc").status_code == 500


@pytest.mark.parametrize("path", ["/infer", "/infer/stream"])
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "sentence"),
        ("sentence=", "sentence"),
        (f"sentence={'x' * 501}", "sentence"),
        ("sentence=a&max_tokens=0", "max_tokens"),
        ("sentence=a&max_tokens=33", "max_tokens"),
        ("sentence=a&max_tokens=many", "max_tokens"),
    ],
    ids=["no sentence", "empty", "too many characters", "no tokens", "too many tokens", "not a number"],
)
def test_a_parameter_outside_its_limits_is_refused_by_name_before_any_work(path: str, query: str, named: str) -> None:
    model = Counting()
    response = client(model).get(f"{path}?{query}")
    assert response.status_code == 422
    assert named in json.dumps(response.json())
    assert model.computed == 0


@pytest.mark.parametrize("path", ["/infer", "/infer/stream"])
def test_a_prompt_of_too_many_tokens_is_refused_with_both_numbers(path: str) -> None:
    response = client().get(path, params={"sentence": "x" * 101})
    assert response.status_code == 400
    assert "101" in response.text
    assert "100" in response.text


def test_health_is_answered() -> None:
    assert client().get("/healthz").json() == {"status": "ok"}


def test_a_health_probe_computes_a_token_and_fails_with_the_model() -> None:
    model = Counting()
    asyncio.run(Generator(model, Letters(), SETTINGS).probe())
    assert model.computed == 1
    with pytest.raises(RuntimeError):
        asyncio.run(Generator(Counting(breaks_after=0), Letters(), SETTINGS).probe())


def test_a_paced_stream_is_never_faster_than_its_pace() -> None:
    async def go() -> float:
        loop = asyncio.get_running_loop()
        generator, times = Generator(Counting(), Letters(), SETTINGS), []
        async for _ in generator.tokens([1], 6, per_s=20.0):
            times.append(loop.time())
        return times[-1] - times[0]

    # Five gaps of 50 ms; sleeping may end a clock tick early.
    assert asyncio.run(go()) >= 0.24


def test_a_client_that_goes_away_has_nothing_more_computed_for_it() -> None:
    async def go() -> int:
        model = Counting()
        stream = Generator(model, Letters(), SETTINGS).tokens([1], 32)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # what the server does when the client is gone
        return model.computed

    assert asyncio.run(go()) == 1


def test_a_sentence_too_long_is_an_error_of_its_own() -> None:
    with pytest.raises(PromptTooLong, match="101"):
        Generator(Counting(), Letters(), SETTINGS).prompt("x" * 101)


def test_growing_text_never_cuts_a_character() -> None:
    data = "aé酒b".encode()
    growing = GrowingText(lambda tokens: bytes(tokens).decode("utf-8", "replace"))
    pieces = [growing.add(byte) for byte in data]
    assert [piece for piece in pieces if piece] == ["a", "é", "酒", "b"]
    assert growing.rest() == ""


def test_growing_text_gives_out_at_the_end_what_it_held_back() -> None:
    growing = GrowingText(lambda tokens: bytes(tokens).decode("utf-8", "replace"))
    assert growing.add(0xC3) == ""
    assert growing.rest() == "\N{REPLACEMENT CHARACTER}"
