"""Errors in the format of OpenAI's API: `{"error": {"message", "type", "param", "code"}}` and a status.

Messages name parameters, numbers and limits, but never a key or any text of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from serving.api.validation import parameter_of, sentence_of
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
        """OpenAI's `type` of the error: whether the request, its rate or the server is the cause."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def body(self) -> dict[str, Any]:
        """Return the error as a JSON object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the error as an HTTP response."""
        return JSONResponse(self.body(), self.status, dict(self.headers))


_ENGINE: dict[type[EngineError], tuple[int, str, Mapping[str, str]]] = {
    Unfit: (400, TOO_LONG, {}),
    QueueFull: (429, "queue_full", {"Retry-After": "1"}),
    NotReady: (503, "not_ready", {"Retry-After": "2"}),
    DeadlineExceeded: (504, "deadline_exceeded", {}),
    GenerationFailed: (500, "generation_failed", {}),
}
"""Status, code and headers for each error of an engine. Retry-After: a queue moves with every answer that ends; a starting replica takes
longer."""


def problem_of(error: Exception) -> Problem:
    """Return the error for the client: an engine's error with its message, any other error without details."""
    if isinstance(error, Problem):
        return error
    if not isinstance(error, EngineError):
        return Problem(500, "the server failed; this is not the request's fault", "internal_error")
    status, code, headers = next((found for kind, found in _ENGINE.items() if isinstance(error, kind)), _ENGINE[GenerationFailed])
    return Problem(status, str(error), code, headers=headers)


def add_error_handlers(app: FastAPI) -> None:
    """Make the application answer every error in this format."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    for kind in (Problem, EngineError, Exception):
        app.add_exception_handler(kind, _failed)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return problem_of(error).response()


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer a validation error with 400, as OpenAI does, where FastAPI uses 422. Only the most specific error is reported."""
    assert isinstance(error, RequestValidationError)
    worst = max(error.errors(), key=lambda one: len(one["loc"]))
    param = parameter_of(worst, error.body)
    if param is None and "upgrade" in request.headers:
        # What is left of the body would be read as the next request of the connection.
        return Problem(400, _UPGRADE, "invalid_value", headers={"Connection": "close"}).response()
    return Problem(400, sentence_of(worst, param), "invalid_value", param).response()


_UPGRADE = (
    "the body was lost: with the header Upgrade (h2c), HTTP/1.1 servers stop reading after the headers. Send no Upgrade; "
    "a Java client does so with HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)"
)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """Answer what the framework itself refuses: paths, methods, bodies."""
    assert isinstance(error, HTTPException)
    message, code = _FRAMEWORK.get(error.status_code, (str(error.detail), None))
    return Problem(error.status_code, message, code, headers=error.headers or {}).response()


_FRAMEWORK: dict[int, tuple[str, str | None]] = {
    400: ("the body cannot be read: it must be JSON in UTF-8, and not nested without end", "invalid_value"),
    404: ("there is nothing at this path", "unknown_url"),
    405: ("this path does not take this method", None),
}
"""Message and code that replace the framework's own, by status. The framework uses 400 for bodies only."""
