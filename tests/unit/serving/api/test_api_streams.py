"""Answers on the wire: events, the list for older clients, and clients that disconnect."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from api_service import SETTINGS, WORDS, Service, StandIn, served, server_of, tokenizer, tokens_of, wait_until
from exact_engine import ENDS, ExactEngine, alone

from serving.engines.batching import BatchingEngine
from serving.engines.contract import GenerationFailed, Limits, Piece, Request, Sampling
from serving.sse import DONE
from serving.tokenizer import Message

CHAT: Any = {"messages": [{"role": "user", "content": "Hello?"}]}
TEXT: Any = {"prompt": "Once"}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[StandIn, Service]]:
    engine = StandIn()
    with served(engine) as service:
        yield engine, service


@pytest.fixture
def engine(running: tuple[StandIn, Service]) -> StandIn:
    running[0].forget()
    return running[0]


@pytest.fixture
def service(running: tuple[StandIn, Service], engine: StandIn) -> Service:
    return running[1]


class Event(NamedTuple):
    """An event whose data are one line, as the service writes them."""

    data: str

    def json(self) -> Any:
        return json.loads(self.data)


def events(response: httpx.Response) -> list[Event]:
    *found, rest = response.content.decode().split("\n\n")
    assert rest == ""
    return [Event(data.removeprefix("data: ")) for data in found]


def test_a_stream_has_events_and_ends_with_done(service: Service) -> None:
    response = httpx.post(
        f"{service.v1}/chat/completions", json=CHAT | {"stream": True, "max_tokens": 4, "return_token_ids": True}, timeout=60
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    opening, *tokens, closing, done = events(response)
    assert done.data == DONE
    assert opening.json()["choices"][0]["delta"]["role"] == "assistant"
    assert [event.json()["choices"][0]["token_ids"] for event in tokens] == [[id] for id in tokens_of(WORDS)[:4]]
    assert closing.json()["choices"][0] | {"token_ids": []} == {
        "index": 0, "delta": {}, "logprobs": None, "finish_reason": "length", "token_ids": [],
    }  # fmt: skip


def test_the_usage_field_is_in_every_chunk_or_in_none(service: Service) -> None:
    usage: Any = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last, done = events(httpx.post(f"{service.v1}/completions", json=TEXT | usage, timeout=60))
    assert {event.json()["usage"] for event in chunks} == {None}
    assert last.json()["usage"]["completion_tokens"] == len(tokens_of(WORDS))
    assert done.data == DONE
    plain = events(httpx.post(f"{service.v1}/completions", json=TEXT | {"stream": True}, timeout=60))
    assert all("usage" not in event.json() for event in plain if event.data != DONE)


def test_no_character_inside_an_event_counts_as_a_line_end(engine: StandIn, service: Service) -> None:
    engine.tokens = tokens_of("a\u2028b\u0085c\x0bd\ne")
    response = httpx.post(f"{service.v1}/completions", json=TEXT | {"stream": True}, timeout=60)
    # Clients that know every line end of Unicode split lines like this.
    texts = [json.loads(line[6:])["choices"][0]["text"] for line in response.text.splitlines() if line and DONE not in line]
    assert "".join(texts) == " a\u2028b\u0085c\x0bd\ne"


def test_a_failure_in_the_middle_of_a_stream_is_the_last_event_and_no_done_follows(engine: StandIn, service: Service) -> None:
    engine.fail(GenerationFailed("the engine was lost after 2 tokens"), after=2)
    *chunks, last = events(httpx.post(f"{service.v1}/completions", json=TEXT | {"stream": True}, timeout=60))
    assert len(chunks) == 2
    assert last.json() == {
        "error": {"message": "the engine was lost after 2 tokens", "type": "server_error", "param": None, "code": "generation_failed"}
    }


def test_an_answer_that_ends_at_once_is_still_a_complete_stream(engine: StandIn, service: Service) -> None:
    engine.tokens = []
    opening, closing, done = events(httpx.post(f"{service.v1}/chat/completions", json=CHAT | {"stream": True}, timeout=60))
    assert opening.json()["choices"][0]["delta"]["content"] == ""
    assert closing.json()["choices"][0]["finish_reason"] == "stop"
    assert done.data == DONE


def test_an_answer_cut_inside_a_character_ends_with_a_replacement_character(engine: StandIn, service: Service) -> None:
    engine.tokens = [771 + byte for byte in "酒".encode()]
    whole = httpx.post(f"{service.v1}/completions", json=TEXT | {"max_tokens": 3}, timeout=60).json()
    cut = httpx.post(f"{service.v1}/completions", json=TEXT | {"max_tokens": 2}, timeout=60).json()
    assert whole["choices"][0]["text"] == "酒"
    assert cut["choices"][0]["text"] == "\N{REPLACEMENT CHARACTER}" * 2


def test_tokens_without_text_are_counted(engine: StandIn, service: Service) -> None:
    engine.tokens = [5, 32767 + 10, 6]
    answer = httpx.post(f"{service.v1}/completions", json=TEXT | {"return_token_ids": True}, timeout=60).json()
    assert answer["choices"][0]["text"] == ""
    assert answer["usage"]["completion_tokens"] == 3


def test_infer_answers_a_list_with_the_text_and_without_the_prompt(engine: StandIn, service: Service) -> None:
    response = httpx.get(f"{service.url}/infer", params={"sentence": "Grüße?", "max_tokens": 100}, timeout=60)
    assert response.json() == [WORDS]
    assert engine.requests[0].prompt == tuple(tokenizer().chat([Message("user", "Grüße?")]))
    assert engine.requests[0].sampling.temperature == 0
    assert httpx.get(f"{service.url}/infer", params={"sentence": "a", "max_tokens": 2}, timeout=60).json() == [
        tokenizer().text(engine.tokens[:2])
    ]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/infer?sentence=a"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [0, 2])
def test_a_client_that_disconnects_frees_its_slot(engine: StandIn, service: Service, path: str, stream: bool, after: int) -> None:
    engine.holds_after = after
    body = json.dumps((CHAT if "chat" in path else TEXT) | {"stream": stream}).encode()
    method = "GET" if "infer" in path else "POST"
    host = ("127.0.0.1", int(service.url.rsplit(":", 1)[1]))
    with socket.create_connection(host) as client:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        wait_until(lambda: engine.live == 1)
    wait_until(lambda: engine.live == 0)
    assert not engine.released.is_set()


class Endless(StandIn):
    """An engine with an endless answer."""

    given = 0

    async def _pieces(self, request: Request) -> AsyncIterator[Piece]:
        while True:
            await asyncio.sleep(0)
            self.given += 1
            yield Piece((1100,) * 100)


def test_a_client_that_stops_reading_pauses_its_answer_and_frees_its_slot_when_it_disconnects() -> None:
    engine, body = Endless(), json.dumps(TEXT | {"stream": True}).encode()

    def stands_still() -> bool:
        before = engine.given
        time.sleep(0.2)
        return 0 < before == engine.given

    with served(engine) as service:
        with socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1]))) as client:
            head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            wait_until(stands_still)
            assert engine.live == 1
        wait_until(lambda: engine.live == 0)


def test_each_of_many_clients_of_a_real_scheduler_gets_the_answer_it_would_get_alone() -> None:
    limits = Limits(slots=4, positions=60, max_prompt=50, vocabulary=32768)
    asked = [(f"question {n}", 5 + n % 20, 0.0 if n % 2 else 1.0) for n in range(24)]

    async def go() -> list[list[int]]:
        engine = BatchingEngine(lambda: ExactEngine(limits), ENDS, max_queue=64, stuck_after_s=30)
        engine.start()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = server_of(engine, SETTINGS)
            running = asyncio.create_task(server.serve(sockets=[listener]))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=60) as client:
                answers = await asyncio.gather(*(one(client, *what) for what in asked))
            server.should_exit = True
            await running
        await engine.stop()
        return answers

    async def one(client: openai.AsyncOpenAI, prompt: str, length: int, temperature: float) -> list[int]:
        stream = await client.completions.create(
            model="mistral", prompt=prompt, max_tokens=length, temperature=temperature, seed=length, stream=True,
            extra_body={"return_token_ids": True},
        )  # fmt: skip
        return [id async for chunk in stream for id in chunk.choices[0].model_dump()["token_ids"]]

    expected = [
        list(alone(Request("x", tuple(tokenizer().completion(prompt)), length, Sampling(temperature, seed=length)), limits)[0])
        for prompt, length, temperature in asked
    ]
    assert asyncio.run(go()) == expected
