"""The HTTP side of the service: what it takes, what it refuses, how it answers. Knows nothing of Ray.

    GET /infer?sentence=…[&max_tokens=]         {"text": …, "tokens": […], "finish_reason": "length"|"stop"}
    GET /infer/stream?sentence=…[&max_tokens=]  the same answer as server-sent events (serving.sse), paced
    GET /healthz                                {"status": "ok"}

A request outside the limits is refused before any work: 422 names the parameter, 400 says that the prompt is too long.
"""

# No `from __future__ import annotations`: FastAPI must see annotations that use the settings.
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from serving import sse
from serving.generation import Generator, PromptTooLong
from serving.settings import Settings
from serving.text import GrowingText

log = logging.getLogger(__name__)

FinishReason = Literal["length", "stop"]
"""length: as many tokens as asked for. stop: the model ended its answer."""


class Answer(BaseModel):
    """A whole answer."""

    text: str
    tokens: list[int]
    finish_reason: FinishReason


def build(generator: Generator, settings: Settings) -> FastAPI:
    """The application around a generator."""
    app = FastAPI(title="Leeward", description="A Mistral model that keeps answering.")
    Sentence = Annotated[str, Query(min_length=1, max_length=settings.max_sentence)]
    MaxTokens = Annotated[int, Query(ge=1, le=settings.max_tokens)]

    @app.get("/infer")
    async def infer(sentence: Sentence, max_tokens: MaxTokens = settings.default_tokens) -> Answer:
        """The whole answer at once, as fast as the model is."""
        prompt = prompt_of(sentence)
        tokens = [token async for token in generator.tokens(prompt, max_tokens)]
        return Answer(text=generator.text(tokens), tokens=tokens, finish_reason=_finish(len(tokens), max_tokens))

    @app.get("/infer/stream", response_class=StreamingResponse)
    async def stream(sentence: Sentence, max_tokens: MaxTokens = settings.default_tokens) -> StreamingResponse:
        """The answer as it grows, one event a token."""
        events = _events(generator, prompt_of(sentence), max_tokens, settings.stream_tokens_per_s)
        return StreamingResponse(events, media_type=sse.MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """That this process answers; whether the model does is Serve's health check."""
        return {"status": "ok"}

    def prompt_of(sentence: str) -> list[int]:
        try:
            return generator.prompt(sentence)
        except PromptTooLong as error:
            raise HTTPException(400, str(error)) from None

    return app


async def _events(generator: Generator, prompt: list[int], limit: int, per_s: float) -> AsyncIterator[str]:
    """The events of one stream. A failure becomes the last event: the status 200 is sent by then."""
    text, count = GrowingText(generator.text), 0
    try:
        async for token in generator.tokens(prompt, limit, per_s):
            count += 1
            yield sse.encode({"token": token, "text": text.add(token)})
        yield sse.encode({"finish_reason": _finish(count, limit), "text": text.rest()})
        yield sse.encode(sse.DONE)
    except Exception as error:  # whatever the model raises, the client must be told
        log.exception("a stream failed after %d tokens", count)
        yield sse.encode({"error": f"{type(error).__name__} after {count} tokens"}, name="error")


def _finish(count: int, limit: int) -> FinishReason:
    return "length" if count == limit else "stop"
