"""Moto's answer to a request, and a 400 for what neither moto nor this package supports.

Moto itself drops the connection or answers in HTML. SDKs then retry for minutes, and fail without naming the operation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from localcloud.aws.auth import errors

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None


class _StartResponse:
    """A start_response that only keeps its arguments, so that the answer can still be replaced."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo = None, /) -> Any:
        self.status, self.headers = status, headers
        return _no_write

    def is_moto_without_route(self) -> bool:
        """Whether this is Flask's own 404 page: no AWS service answers 404 in HTML."""
        kind = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        return self.status.startswith("404") and kind.startswith("text/html")


def _no_write(_: bytes) -> None:
    raise NotImplementedError("the write callable of WSGI is not supported")


def answer(app: DomainDispatcherApplication, service: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Return moto's answer; if it has none, a 400 that names service and action. The caller holds `moto_lock.MOTO_LOCK`."""
    requested = f"{service} {environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')} {environ.get('HTTP_X_AMZ_TARGET', '')}".strip()
    started = _StartResponse()
    try:
        backend = app.get_application(environ)
    except Exception:
        return _unsupported(start_response, service, f"the embedded cloud has no service {service!r} ({requested})")
    try:
        body: Iterable[bytes] = backend(environ, started)
    except NotImplementedError as error:
        return _unsupported(start_response, service, f"the embedded cloud does not do this: {requested}: {error}")
    except Exception as error:
        log.exception("%s failed inside the embedded AWS", requested)
        # 400 and not 500: an SDK retries 500s for minutes, and the same request would fail the same way.
        return errors.respond(start_response, service, 400, "InternalFailure", f"{requested}: {type(error).__name__}: {error}")
    if service != "s3" and started.is_moto_without_route():  # moto's S3 has every route; its answer to a HEAD looks like this
        return _unsupported(start_response, service, f"the embedded cloud does not do this: {requested}")
    start_response(started.status, started.headers)
    return body


def _unsupported(start_response: StartResponse, service: str, message: str) -> Iterable[bytes]:
    log.warning("not supported: %s", message)
    json_protocol = errors.is_json(service)
    return errors.respond(start_response, service, 400, "UnknownOperationException" if json_protocol else "InvalidAction", message)
