"""Closed-loop clients, against a server that counts the requests at the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from benchmarks.clients import Job, NotAnAnswer, tokens_per_s

ANSWER = {"choices": [{"text": "noise"}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


class Server:
    """A server on a loopback port; tests set its answers."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.at_once = self.most_at_once = 0
        self.expected_at_once = 1
        """No request is answered before this number of requests has come at the same time."""
        self.given_up = 0
        self.answer: dict[str, object] = ANSWER
        self.status = 200
        self.may_answer = asyncio.Semaphore(1_000_000)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            while self.most_at_once < self.expected_at_once:
                await asyncio.sleep(0.001)
            await self.may_answer.acquire()
            # A request too many would have come, most likely, after every other task had its turn.
            for _ in range(20):
                await asyncio.sleep(0)
            return await self._stream(request) if body.get("stream") else web.json_response(self.answer, status=self.status)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        finally:
            self.at_once -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in ({"choices": [{"text": "noise"}]}, self.answer):
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


def measured(server: Server, ask: Callable[[str], Awaitable[float]]) -> float:
    """Return the result of `ask`, called while the server is up."""

    async def main() -> float:
        app = web.Application()
        app.router.add_post("/v1/completions", server.completions)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            return await ask(f"http://{host}:{port}")
        finally:
            await runner.cleanup()

    return asyncio.run(main())


def job(url: str, prompts: int, clients: int, *, stream: bool = False, enough: int = 0) -> Job:
    return Job(url, "mistral", [f"prompt {n}" for n in range(prompts)], 3, 5, clients, stream, enough)


@pytest.mark.parametrize("stream", [False, True])
def test_each_prompt_is_sent_once_and_no_more_at_a_time_than_there_are_clients(stream: bool) -> None:
    server = Server()
    server.expected_at_once = 4
    rate = measured(server, lambda url: tokens_per_s(job(url, 20, 4, stream=stream)))
    assert sorted(str(body["prompt"]) for body in server.asked) == sorted(f"prompt {n}" for n in range(20))
    assert server.most_at_once == 4
    assert rate > 0


def test_every_request_is_for_a_greedy_answer_of_the_requested_length() -> None:
    server = Server()
    measured(server, lambda url: tokens_per_s(job(url, 2, 1)))
    assert {(body["max_tokens"], body["temperature"]) for body in server.asked} == {(5, 0)}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_another_length_fails_the_measurement(stream: bool) -> None:
    server = Server()
    server.answer = {**ANSWER, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    with pytest.raises(NotAnAnswer, match=r"\(3, 4\) tokens of prompt and answer, not \(3, 5\)"):
        measured(server, lambda url: tokens_per_s(job(url, 4, 2, stream=stream)))


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_its_length_fails_the_measurement(stream: bool) -> None:
    server = Server()
    server.answer = {"choices": [{"text": "noise"}]}
    with pytest.raises(NotAnAnswer):
        measured(server, lambda url: tokens_per_s(job(url, 1, 1, stream=stream)))


def test_a_refusal_fails_the_measurement_and_is_in_the_message() -> None:
    server = Server()
    server.status, server.answer = 503, {"error": "asleep"}
    with pytest.raises(NotAnAnswer, match=r"status 503: .*asleep"):
        measured(server, lambda url: tokens_per_s(job(url, 4, 2)))


def test_after_enough_answers_the_clients_that_still_wait_disconnect() -> None:
    server = Server()
    server.may_answer, server.expected_at_once = asyncio.Semaphore(2), 8

    async def ask(url: str) -> float:
        rate = await asyncio.wait_for(tokens_per_s(job(url, 8, 8, enough=2)), 60)
        for _ in range(6000):
            if server.given_up == 6:
                break
            await asyncio.sleep(0.01)
        return rate

    assert measured(server, ask) > 0
    assert (server.most_at_once, server.given_up) == (8, 6)
