"""The operation that a request asks for, with its parameters, read by botocore's model of the service."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.etree import ElementTree

from botocore.exceptions import UnknownServiceError
from moto.core.parse import PROTOCOL_PARSERS, RequestParserError
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from werkzeug.exceptions import NotFound

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

UNKNOWN = "UnknownOperation"
"""Name of an operation that no model has. Only who may do everything of the service gets as far as its refusal."""
_MODELS = {"elasticloadbalancing": "elbv2", "monitoring": "cloudwatch", "servicequotas": "service-quotas"}
"""Names of botocore's models that differ from the name that requests are signed for, which is also the prefix of IAM's actions."""
_CLASSIC, _CLASSIC_VERSION = "elb", "2012-06-01"
"""Model of classic load balancers, whose requests are signed for the same name as those of newer ones, and its version."""


@dataclass(frozen=True)
class Operation:
    """One operation of a service. The service has the name that its requests are signed for."""

    service: str
    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


def read(service: str, environ: WSGIEnvironment) -> Operation:
    """Read the operation. The body can be read again afterwards; of S3 it is read only where it names what is deleted."""
    copied = dict(environ)
    if service != "s3":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"], copied["wsgi.input"] = io.BytesIO(body), io.BytesIO(body)
    request = Request(copied)
    name = (
        _CLASSIC
        if service == "elasticloadbalancing" and request.values.get("Version") == _CLASSIC_VERSION
        else _MODELS.get(service, service)
    )
    try:
        model, in_path = get_service_router(name).match(request)
    except (NotFound, NotImplementedError, UnknownServiceError):
        return Operation(service, UNKNOWN)
    if service == "s3":
        return Operation(service, model.name, _of_s3(model.name, request, in_path, environ))
    protocol = determine_request_protocol(get_service_model(name), request.content_type)
    given: Any = {
        "method": request.method,
        "values": request.values,
        "headers": request.headers,
        "body": request.data,
        "url_path": request.path,
        "url_params": in_path,
    }
    try:
        return Operation(service, model.name, PROTOCOL_PARSERS[protocol](model).parse(given))
    except (RequestParserError, ValueError, TypeError, KeyError, AttributeError):
        return Operation(service, model.name)  # a body that moto will refuse; until then it names no resource


def _of_s3(name: str, request: Request, in_path: dict[str, Any], environ: WSGIEnvironment) -> dict[str, Any]:
    parameters: dict[str, Any] = {key: value for key, value in request.args.items() if not key.startswith("X-Amz-")}
    parameters |= {key: unquote(str(value)) if key == "Bucket" else value for key, value in in_path.items()}
    if source := request.headers.get("X-Amz-Copy-Source"):
        parameters["CopySource"] = unquote(source).partition("?")[0].lstrip("/")
    if name == "DeleteObjects":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        parameters["Objects"] = _deleted(body)
    return parameters


def _deleted(body: bytes) -> list[tuple[str, str]]:
    """Key and version of each object that is to be deleted; the version is empty when none is named."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return []
    found = [child for child in root.iter() if child.tag.rpartition("}")[2] == "Object"]
    return [(_text(each, "Key"), _text(each, "VersionId")) for each in found]


def _text(element: ElementTree.Element, name: str) -> str:
    return next((child.text or "" for child in element if child.tag.rpartition("}")[2] == name), "")
