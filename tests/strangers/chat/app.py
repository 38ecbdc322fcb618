"""OpenAI's API with a model that says something else each time. The key comes from the environment."""

import asyncio
import json
import os
import random
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from ray import serve

MODEL = "dice-7b"
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

api = FastAPI()


Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def check_key(given: Bearer) -> None:
    """Refuse a request without the key."""
    if given is None or given.credentials != os.environ["API_KEY"]:
        raise HTTPException(401, "the API key is missing or wrong")


class Asked(BaseModel):
    """Both of OpenAI's requests, as far as dice need them."""

    model: str
    prompt: str = ""
    messages: list[dict[str, Any]] = []
    max_tokens: int = 16
    stream: bool = False


@serve.deployment(name="Chat")
@serve.ingress(api)
class Chat:
    """Engine and API in one, as small servers are."""

    @api.get("/v1/models", dependencies=[Depends(check_key)])
    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}

    @api.post("/v1/completions", dependencies=[Depends(check_key)])
    async def completions(self, asked: Asked) -> Any:
        return await self._answer(asked, "text_completion", "cmpl")

    @api.post("/v1/chat/completions", dependencies=[Depends(check_key)])
    async def chat(self, asked: Asked) -> Any:
        return await self._answer(asked, "chat.completion", "chatcmpl")

    async def _answer(self, asked: Asked, kind: str, prefix: str) -> Any:
        if asked.model != MODEL:
            raise HTTPException(404, f"the model {asked.model!r} does not exist")
        head = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}
        # Like a model, it also ends when it has nothing more to say.
        words = [random.choice(WORDS) for _ in range(random.randint(max(1, asked.max_tokens // 2), asked.max_tokens))]
        why = "length" if len(words) == asked.max_tokens else "stop"
        if asked.stream:
            return StreamingResponse(self._events(head, kind, words, why), media_type="text/event-stream")
        await asyncio.sleep(0.02 * len(words))
        text = " ".join(words)
        content = {"message": {"role": "assistant", "content": text}} if kind == "chat.completion" else {"text": text}
        usage = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 1 + len(words)}
        return {**head, "object": kind, "choices": [{"index": 0, **content, "finish_reason": why}], "usage": usage}

    async def _events(self, head: dict[str, Any], kind: str, words: list[str], why: str) -> AsyncIterator[str]:
        chat = kind == "chat.completion"
        name = "chat.completion.chunk" if chat else kind

        def event(content: dict[str, Any], finish: str | None) -> str:
            chunk = {**head, "object": name, "choices": [{"index": 0, **content, "finish_reason": finish}]}
            return f"data: {json.dumps(chunk)}\n\n"

        if chat:
            yield event({"delta": {"role": "assistant", "content": ""}}, None)
        for word in words:
            await asyncio.sleep(0.1)
            yield event({"delta": {"content": f"{word} "}} if chat else {"text": f"{word} "}, None)
        yield event({"delta": {}} if chat else {"text": ""}, why)
        yield "data: [DONE]\n\n"


app = Chat.bind()
