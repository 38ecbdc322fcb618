"""The endpoint's routes beside AWS's API, under /localcloud/: health, inventory, calls, leftovers, shortages, quotas and others.

They need no signature: their answers contain names and no secrets, and only this machine can reach the address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from localcloud.aws import audit, quotas
from localcloud.aws.authorization import record
from localcloud.aws.ec2 import interruptions, shortages
from localcloud.aws.eks import token_review

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIX = "/localcloud/"
_MAX_BODY = 1 << 20


def answer(environ: WSGIEnvironment, start_response: StartResponse, hosts: frozenset[str]) -> Iterable[bytes]:
    """Answer the route in JSON, with 404 when there is no such route. `hosts` are the "address:port" of the embedded STS."""
    route = (environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(PREFIX))
    match route:
        case ("GET", "health"):
            return _json(start_response, {"ok": True})
        case ("GET", "inventory"):
            return _json(start_response, audit.inventory())
        case ("GET", "calls"):
            return _json(start_response, record.calls())
        case ("POST", "baseline"):
            audit.set_baseline()
            return _json(start_response, {"ok": True})
        case ("GET", "leftovers"):
            return _json(start_response, audit.leftovers())
        case ("GET", "shortages"):
            return _json(start_response, shortages.current())
        case ("PUT" | "DELETE" as method, path) if path.startswith("shortages/") and path.count("/") == 2:
            _, instance_type, zone = path.split("/")
            (shortages.begin if method == "PUT" else shortages.end)(instance_type, zone)
            return _json(start_response, shortages.current())
        case ("PUT", path) if re.fullmatch(r"quotas/[A-Z0-9-]+/\d+", path):
            _, code, value = path.split("/")
            quotas.backend().values[code] = float(value)
            return _json(start_response, quotas.backend().values)
        case ("PUT", path) if path.startswith("interruptions/"):
            return _interrupt(start_response, path.removeprefix("interruptions/"))
        case ("POST", path) if path.startswith("token-review/"):
            return _review(environ, start_response, unquote(path.removeprefix("token-review/")), hosts)
    return _json(start_response, {"error": f"no such route: {route[0]} {PREFIX}{route[1]}"}, HTTPStatus.NOT_FOUND)


def _interrupt(start_response: StartResponse, instance_id: str) -> Iterable[bytes]:
    try:
        interruptions.interrupt(instance_id)
    except interruptions.NotRunning as error:
        return _json(start_response, {"error": str(error)}, HTTPStatus.NOT_FOUND)
    return _json(start_response, {"instance": instance_id, "ends_in_s": interruptions.NOTICE_S})


def _review(environ: WSGIEnvironment, start_response: StartResponse, cluster: str, hosts: frozenset[str]) -> Iterable[bytes]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    try:
        body = json.loads(environ["wsgi.input"].read(min(length, _MAX_BODY)))
        token = str(body["spec"]["token"])
    except (ValueError, KeyError, TypeError):
        return _json(start_response, {"error": "the body is not a TokenReview"}, HTTPStatus.BAD_REQUEST)
    return _json(start_response, token_review.review(token, cluster, hosts))


def _json(start_response: StartResponse, value: Any, status: HTTPStatus = HTTPStatus.OK) -> Iterable[bytes]:
    body = json.dumps(value, default=str, indent=1).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
