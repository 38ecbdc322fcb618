"""Errors in the form that each AWS protocol gives them, so that an SDK shows the code and the message."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

_QUERY_SERVICES = {"sts", "iam", "elasticache", "autoscaling", "cloudformation", "elasticloadbalancing", "sns", "rds"}


def respond(start_response: StartResponse, service: str, status: int, code: str, message: str) -> Iterable[bytes]:
    """Answers `code` and `message` with that HTTP status, in the service's protocol."""
    content_type, content = body(service, code, message)
    headers = [("Content-Type", content_type), ("Content-Length", str(len(content))), ("x-amzn-ErrorType", code)]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [content]


def body(service: str, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of an error."""
    error = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if service == "s3":
        return "application/xml", f"<Error>{error}<RequestId>0</RequestId></Error>".encode()
    if service == "ec2":
        return "text/xml", f"<Response><Errors><Error>{error}</Error></Errors><RequestID>0</RequestID></Response>".encode()
    if service in _QUERY_SERVICES:
        xml = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>0</RequestId></ErrorResponse>"
        return "text/xml", xml.encode()
    return "application/json", json.dumps({"__type": code, "message": message}).encode()


def is_json(service: str) -> bool:
    """Whether the service speaks JSON, where some error codes have another name."""
    return service not in _QUERY_SERVICES | {"s3", "ec2"}
