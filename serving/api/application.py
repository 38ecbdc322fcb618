"""The FastAPI application: its paths, middleware and error handlers."""

# No `from __future__ import annotations`: FastAPI must see the annotations of the paths at run time.
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from serving.api import problems
from serving.api.answering import PreparedRequest, StreamedAnswer, WholeAnswer
from serving.api.bodies import Body, ChatBody, CompletionBody, StreamOptions
from serving.api.middleware import OPEN, AuthMiddleware
from serving.api.problems import Problem
from serving.api.prompts import Prompts
from serving.api.shapes import ChatCompletion, Completion, Model, Models, Status, responses
from serving.api.wire import ChatEncoder, CompletionEncoder, ListEncoder, Usage
from serving.engines.contract import EngineClient, EngineError
from serving.settings import Settings
from serving.tokenizer import Tokenizer


def build_app(engine: EngineClient, tokenizer: Tokenizer, settings: Settings) -> FastAPI:
    """Return the application over an engine, which may still be starting."""
    prompts = Prompts(engine, tokenizer, settings)

    @asynccontextmanager
    async def connect_first(_: FastAPI) -> AsyncIterator[None]:
        # Otherwise the first request waits until the handle has found the engines, or is refused. If all are starting, go on without.
        with suppress(EngineError):
            await prompts.ready()
        yield

    app = FastAPI(
        title="Leeward",
        description="A Mistral model that keeps answering.",
        lifespan=connect_first,
        # The documentation pages would load scripts from other sites.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the middleware takes a slash at the end away
    )
    app.add_middleware(AuthMiddleware, key=settings.api_key)
    if settings.allowed_origins:  # outermost: a browser asks for permission without the key, and must see a refusal, too
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"], allow_headers=["*"])
    problems.add_error_handlers(app)
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
        return answer(await prompts.prepare_chat(body), body, ChatEncoder)

    @app.post("/v1/completions", responses=responses(*statuses, model=Completion, stream=True))
    async def completion(body: CompletionBody) -> Response:
        """The continuation of a text."""
        return answer(await prompts.prepare_completion(body), body, CompletionEncoder)

    @app.get("/infer", responses=responses(400, 401, 429, 500, 503, 504, model=list[str]))
    async def infer(sentence: Annotated[str, Query(min_length=1)], max_tokens: Annotated[int | None, Query(ge=1)] = None) -> Response:
        """The likeliest answer to a sentence: a list with its text."""
        return WholeAnswer(engine, await prompts.prepare_sentence(sentence, max_tokens), ListEncoder())

    def answer(prepared: PreparedRequest, body: Body, encoder: type[ChatEncoder] | type[CompletionEncoder]) -> Response:
        writer = encoder(prepared.request.id, model, bool(body.return_token_ids), _usage(body.stream_options))
        return StreamedAnswer(engine, prepared, writer) if body.stream else WholeAnswer(engine, prepared, writer)


def _usage(options: StreamOptions | None) -> Usage:
    if not (options and options.include_usage):
        return ""
    return "each" if options.continuous_usage_stats else "last"


def _add_models(app: FastAPI, settings: Settings) -> None:
    name = settings.model_name
    limits = {"max_model_len": settings.positions, "max_completion_tokens": settings.max_tokens}
    entry = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "leeward", **limits, **_described(settings.model)}

    @app.get("/v1/models", responses=responses(401, model=Models))
    async def models() -> Response:
        """Return the one model that is served."""
        return JSONResponse({"object": "list", "data": [entry]})

    # A model's name may contain a slash.
    @app.get("/v1/models/{model:path}", responses=responses(401, 404, model=Model))
    async def model(model: str) -> Response:
        """The model of this name; 404 if it is not the one that is served."""
        if model != name:
            raise Problem(404, f"no such model; {name!r} is served", "model_not_found", "model")
        return JSONResponse(entry)


def _described(checkpoint: Path) -> dict[str, str]:
    """Return the `description` in the checkpoint's config.json, if it has one."""
    try:
        found = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("description")
    except OSError:
        return {}
    return {"description": found} if isinstance(found, str) else {}


def _add_health(app: FastAPI, prompts: Prompts) -> None:
    @app.get("/healthz", responses=responses(model=Status))
    async def healthz() -> Response:
        """The API process answers."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", responses=responses(500, 503, model=Status))
    async def readyz() -> Response:
        """An engine can answer."""
        await prompts.ready()
        return JSONResponse({"status": "ready"})


def _document_keys(app: FastAPI) -> None:
    """Make the OpenAPI document say that a key is required, and in which headers."""
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
