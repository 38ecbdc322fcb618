"""Models of the answers, only for the OpenAPI document: answers are written by serving.api.wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Usage(BaseModel):
    """Number of tokens of prompt and answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    """The message of the model."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """The answer; there is one."""

    index: Literal[0]
    message: AnswerMessage
    logprobs: None
    finish_reason: Literal["stop", "length"]
    token_ids: list[int] | None = None


class ChatCompletion(BaseModel):
    """A complete answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionChoice(BaseModel):
    """The continuation; there is one."""

    index: Literal[0]
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length"]
    token_ids: list[int] | None = None


class Completion(BaseModel):
    """A complete answer of /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    """Tokens of prompt and answer together at most. Part of vLLM's API, not of OpenAI's."""
    max_completion_tokens: int
    """Tokens of the longest answer. Not part of OpenAI's API."""
    description: str = ""
    """Description in the checkpoint, if it has one. Not part of OpenAI's API."""


class Models(BaseModel):
    """The models that are served."""

    object: Literal["list"]
    data: list[Model]


class Status(BaseModel):
    """State of the service."""

    status: Literal["ok", "ready"]


class ErrorDetail(BaseModel):
    """The error and its cause."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class Error(BaseModel):
    """The body of every error response."""

    error: ErrorDetail


_WHY = {
    "400": "A parameter is wrong, not supported or not known; or the prompt is too long.",
    "401": "The API key is missing or wrong.",
    "404": "No such model.",
    "413": "The body is too large.",
    "429": "The queue is full.",
    "500": "The engine or the API failed.",
    "503": "The engine is starting, stopping or broken.",
    "504": "The answer was not complete in time.",
    "4XX": "Any other refusal.",
}
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "description": "A chunk, or [DONE] after the last one; or an error, without [DONE]."}},
}
_EVENTS = {"text/event-stream": {"itemSchema": _EVENT}}


def responses(*statuses: int, model: Any = None, stream: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the responses of an endpoint, for FastAPI. The entry 4XX keeps FastAPI from adding a 422, which is never sent."""
    found: dict[int | str, dict[str, Any]] = {str(s): {"model": Error, "description": _WHY[str(s)]} for s in (*statuses, "4XX")}
    if model:
        found["200"] = {"model": model, "description": "The answer.", **({"content": _EVENTS} if stream else {})}
    return found
