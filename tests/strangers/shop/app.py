"""Two applications of one shop. Both have deployments named Ingress and Model, as teams name them that do not know each other."""

import asyncio
import json
from collections.abc import AsyncIterator

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

PRAISE = {"good", "great", "excellent", "love"}
WORDS = ["a", "bag", "for", "every", "day", "made", "of", "strong", "cotton", "with", "two", "long", "handles"]


@serve.deployment(name="Model")
class Stars:
    """How many stars a review gives."""

    async def __call__(self, text: str) -> int:
        await asyncio.sleep(0.05)
        return min(5, 1 + 2 * len(PRAISE & set(text.lower().split())))


@serve.deployment(name="Ingress")
class Reviews:
    """Answers POST {"text": …} with JSON."""

    def __init__(self, model: DeploymentHandle) -> None:
        self.model = model

    async def __call__(self, request: Request) -> JSONResponse:
        text = (await request.json())["text"]
        return JSONResponse({"stars": await self.model.remote(text)})


@serve.deployment(name="Model")
class Writer:
    """Writes a description, word after word."""

    async def __call__(self, words: int) -> AsyncIterator[str]:
        for position in range(words):
            await asyncio.sleep(0.1)
            yield WORDS[position % len(WORDS)]


@serve.deployment(name="Ingress")
class Products:
    """Answers GET ?words=N with a line of JSON for each word, and a last line that says that it is the last."""

    def __init__(self, model: DeploymentHandle) -> None:
        self.model = model.options(stream=True)

    async def __call__(self, request: Request) -> StreamingResponse:
        words = int(request.query_params.get("words", "20"))
        return StreamingResponse(self._lines(words), media_type="application/jsonl")

    async def _lines(self, words: int) -> AsyncIterator[str]:
        async for word in self.model.remote(words):
            yield json.dumps({"text": word}) + "\n"
        yield json.dumps({"done": True}) + "\n"


reviews = Reviews.bind(Stars.bind())
products = Products.bind(Writer.bind())
