"""Why there is no answer, as OpenAI's API tells it: `{"error": {"message", "type", "param", "code"}}` and a status.

Texts name parameters, numbers and limits; never a key, and never what somebody wrote in a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from serving.api.wording import parameter_of, sentence_of
from serving.engines.contract import DeadlineExceeded, EngineError, GenerationFailed, NotReady, QueueFull, Unfit

TOO_LONG = "context_length_exceeded"


@dataclass(eq=False)
class Problem(Exception):
    """One refusal or failure."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """OpenAI's `type`: whose fault it is."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def body(self) -> dict[str, Any]:
        """The error as JSON has it."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The error as an answer of its own."""
        return JSONResponse(self.body(), self.status, dict(self.headers))


_ENGINE: dict[type[EngineError], tuple[int, str, Mapping[str, str]]] = {
    Unfit: (400, TOO_LONG, {}),
    QueueFull: (429, "queue_full", {"Retry-After": "1"}),
    NotReady: (503, "not_ready", {"Retry-After": "2"}),
    DeadlineExceeded: (504, "deadline_exceeded", {}),
    GenerationFailed: (500, "generation_failed", {}),
}
"""Status, code and headers of each error of an engine. A full queue moves on with every answer that ends; a replica that
starts takes longer."""


def problem_of(error: Exception) -> Problem:
    """The error as a client is told it: an engine's in its own words, of any other only that there was one."""
    if isinstance(error, Problem):
        return error
    if not isinstance(error, EngineError):
        return Problem(500, "the server failed; this is not the request's fault", "internal_error")
    status, code, headers = next((told for kind, told in _ENGINE.items() if isinstance(error, kind)), _ENGINE[GenerationFailed])
    return Problem(status, str(error), code, headers=headers)


def install(app: FastAPI) -> None:
    """Every error of the application is told in this shape."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    for kind in (Problem, EngineError, Exception):
        app.add_exception_handler(kind, _told)


async def _told(request: Request, error: Exception) -> JSONResponse:
    return problem_of(error).response()


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's 422 is OpenAI's 400. Of several errors the one that says most is told."""
    assert isinstance(error, RequestValidationError)
    worst = max(error.errors(), key=lambda one: len(one["loc"]))
    param = parameter_of(worst, error.body)
    return Problem(400, sentence_of(worst, param), "invalid_value", param).response()


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: paths, methods, bodies."""
    assert isinstance(error, HTTPException)
    told, code = _FRAMEWORK.get(error.status_code, (str(error.detail), None))
    return Problem(error.status_code, told, code, headers=error.headers or {}).response()


_FRAMEWORK: dict[int, tuple[str, str | None]] = {
    400: ("the body cannot be read: it must be JSON in UTF-8, and not nested without end", "invalid_value"),
    404: ("there is nothing at this path", "unknown_url"),
    405: ("this path does not take this method", None),
}
"""Sentence and code of what the framework says in its own words. It has a 400 for bodies only."""
