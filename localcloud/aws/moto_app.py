"""Moto's answer to a request, and a 400 for what neither moto nor this package supports.

Moto itself drops the connection or answers in HTML. SDKs then retry for minutes, and fail without naming the operation.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from werkzeug.wrappers import Response

from localcloud.aws.auth import errors

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger(__name__)


def answer(app: DomainDispatcherApplication, service: str, environ: WSGIEnvironment) -> Response:
    """Return moto's answer; if it has none, a 400 that names service and action. The caller holds `moto_lock.MOTO_LOCK`."""
    requested = f"{service} {environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')} {environ.get('HTTP_X_AMZ_TARGET', '')}".strip()
    try:
        backend = app.get_application(environ)
    except Exception:
        return _unsupported(service, f"the embedded cloud has no service {service!r} ({requested})")
    try:
        response = Response.from_app(backend, environ)
    except NotImplementedError as error:
        return _unsupported(service, f"the embedded cloud does not do this: {requested}: {error}")
    except Exception as error:
        log.exception("%s failed inside the embedded AWS", requested)
        # 400 and not 500: an SDK retries 500s for minutes, and the same request would fail the same way.
        return errors.response(service, 400, "InternalFailure", f"{requested}: {type(error).__name__}: {error}")
    # Flask's own 404 page: no AWS service answers 404 in HTML. But moto's S3, which has every route, does to a HEAD.
    if service != "s3" and response.status_code == 404 and response.mimetype == "text/html":
        return _unsupported(service, f"the embedded cloud does not do this: {requested}")
    return response


def _unsupported(service: str, message: str) -> Response:
    log.warning("not supported: %s", message)
    return errors.response(service, 400, "UnknownOperationException" if errors.is_json(service) else "InvalidAction", message)
