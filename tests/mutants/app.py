"""OpenAI's API with a model that counts: one question has one answer, token by token. Some variants of it are broken on purpose.

The variants look at the head's port as a client of the GCS does: that tells when there is none, and when there is one again.
"""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
STEP_S = 0.1
CUT_AFTER = 5


class Head:
    """What is known of the head, from its port for workers."""

    def __init__(self) -> None:
        self.away, self.lost_once = False, False
        address = os.environ["RAY_ADDRESS"].removeprefix("ray://")
        self._host, _, self._port = address.rpartition(":")
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                socket.create_connection((self._host, int(self._port)), timeout=1).close()
                self.away = False
            except OSError:
                self.away = self.lost_once = True
            time.sleep(0.2)


class Model:
    """Engine and API in one, as small servers are."""

    async def __call__(self, request: Request) -> Response:
        asked = await request.json()
        prompt = asked.get("prompt") or asked["messages"][-1]["content"]
        tokens = self.tokens(prompt, int(asked["max_tokens"]))
        if asked.get("stream"):
            return StreamingResponse(self.events(tokens), media_type="text/event-stream")
        await asyncio.sleep(0.02 * len(tokens))
        text = " ".join(WORDS[token] for token in tokens)
        return JSONResponse({"object": "text_completion", "choices": [{"index": 0, "text": text, "token_ids": tokens}]})

    def tokens(self, prompt: str, count: int) -> list[int]:
        return [(len(prompt) + position) % len(WORDS) for position in range(count)]

    async def events(self, tokens: list[int]) -> AsyncIterator[str]:
        for token in tokens:
            await asyncio.sleep(STEP_S)
            choice: dict[str, Any] = {"index": 0, "delta": {"content": f"{WORDS[token]} "}, "token_ids": [token]}
            yield f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"


class Watching(Model):
    """A model that knows whether there is a head."""

    def __init__(self) -> None:
        self.head = Head()


class Cuts(Watching):
    """It begins every stream with status 200, and ends it early while there is no head."""

    async def events(self, tokens: list[int]) -> AsyncIterator[str]:
        sent = 0
        async for event in super().events(tokens):
            if self.head.away and sent >= CUT_AFTER:
                raise ConnectionError("a part of the model is not there")
            yield event
            sent += 1


class Forgets(Watching):
    """It answers as fluently as ever once it has lost its head, but something else."""

    def tokens(self, prompt: str, count: int) -> list[int]:
        right = super().tokens(prompt, count)
        return [(token + 1) % len(WORDS) for token in right] if self.head.lost_once and not self.head.away else right


deployment = serve.deployment(name="Model")
app, cuts, forgets = (deployment(kind).bind() for kind in (Model, Cuts, Forgets))
