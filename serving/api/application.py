"""The application: its paths, and which part does what."""

# No `from __future__ import annotations`: FastAPI must see the annotations of the paths at run time.
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from starlette.responses import JSONResponse, Response

from serving.api import problems
from serving.api.answering import StreamedAnswer, Wanted, WholeAnswer
from serving.api.bodies import Body, ChatBody, CompletionBody
from serving.api.middleware import OPEN, Door
from serving.api.problems import Problem
from serving.api.prompts import Prompts
from serving.api.shapes import ChatCompletion, Completion, Model, Models, Status, responses
from serving.api.wire import ChatForm, CompletionForm, ListForm
from serving.engines.contract import EngineClient, EngineError
from serving.settings import Settings
from serving.tokenizer import Tokenizer


def build(engine: EngineClient, tokenizer: Tokenizer, settings: Settings) -> FastAPI:
    """The application over an engine, which may still be starting."""
    prompts = Prompts(engine, tokenizer, settings)

    @asynccontextmanager
    async def asked_first(_: FastAPI) -> AsyncIterator[None]:
        # Else whoever comes first waits until the way to the engines is found, or is refused. When all are starting, this starts without.
        with suppress(EngineError):
            await prompts.ready()
        yield

    app = FastAPI(
        title="Leeward",
        description="A Mistral model that keeps answering.",
        lifespan=asked_first,
        # The pages of documentation would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Door, key=settings.api_key)
    problems.install(app)
    _add_answers(app, engine, prompts, settings.model_name)
    _add_models(app, settings)
    _add_health(app, prompts)
    if settings.api_key:
        _document_keys(app)
    return app


def _add_answers(app: FastAPI, engine: EngineClient, prompts: Prompts, model: str) -> None:
    statuses = (400, 401, 404, 413, 429, 500, 503, 504)

    @app.post("/v1/chat/completions", responses=responses(*statuses, model=ChatCompletion, stream=True))
    async def chat(body: ChatBody) -> Response:
        """The model's next turn in a conversation."""
        return answer(await prompts.of_chat(body), body, ChatForm)

    @app.post("/v1/completions", responses=responses(*statuses, model=Completion, stream=True))
    async def completion(body: CompletionBody) -> Response:
        """How a text goes on."""
        return answer(await prompts.of_completion(body), body, CompletionForm)

    @app.get("/infer", responses=responses(400, 401, 429, 500, 503, 504, model=list[str]))
    async def infer(sentence: Annotated[str, Query(min_length=1)], max_tokens: Annotated[int | None, Query(ge=1)] = None) -> Response:
        """The likeliest answer to a sentence: a list with its text."""
        return WholeAnswer(engine, await prompts.of_sentence(sentence, max_tokens), ListForm())

    def answer(wanted: Wanted, body: Body, form: type[ChatForm] | type[CompletionForm]) -> Response:
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        writer = form(wanted.request.id, model, bool(body.return_token_ids), with_usage)
        return StreamedAnswer(engine, wanted, writer) if body.stream else WholeAnswer(engine, wanted, writer)


def _add_models(app: FastAPI, settings: Settings) -> None:
    name = settings.model_name
    entry = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "leeward", **_described(settings.model)}

    @app.get("/v1/models", responses=responses(401, model=Models))
    async def models() -> Response:
        """The one model."""
        return JSONResponse({"object": "list", "data": [entry]})

    # A model's name may have a slash in it.
    @app.get("/v1/models/{model:path}", responses=responses(401, 404, model=Model))
    async def model(model: str) -> Response:
        """The model, if it is the one."""
        if model != name:
            raise Problem(404, f"no such model; {name!r} is served", "model_not_found", "model")
        return JSONResponse(entry)


def _described(checkpoint: Path) -> dict[str, str]:
    """What a checkpoint says of itself: `description` in its config.json, when it has one."""
    try:
        found = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("description")
    except OSError:
        return {}
    return {"description": found} if isinstance(found, str) else {}


def _add_health(app: FastAPI, prompts: Prompts) -> None:
    @app.get("/healthz", responses=responses(model=Status))
    async def healthz() -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", responses=responses(500, 503, model=Status))
    async def readyz() -> Response:
        """The engine can answer."""
        await prompts.ready()
        return JSONResponse({"status": "ready"})


def _document_keys(app: FastAPI) -> None:
    """The OpenAPI document says that a key is needed, and where."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        for path, operations in document["paths"].items():
            for operation in operations.values() if path not in OPEN else ():
                operation["security"] = [{"bearer": []}, {"header": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
