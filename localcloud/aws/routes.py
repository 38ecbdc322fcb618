"""The endpoint's routes beside AWS's API, under /localcloud/: health, inventory, calls, leftovers, shortages, quotas and others.

They need no signature: their answers contain names and no secrets, and only this machine can reach the address.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from werkzeug.wrappers import Response

from localcloud.aws import audit, quotas
from localcloud.aws.authorization import record
from localcloud.aws.ec2 import interruptions, shortages
from localcloud.aws.eks import token_review

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

PREFIX = "/localcloud/"
_MAX_BODY = 1 << 20


def answer(environ: WSGIEnvironment, hosts: frozenset[str]) -> Response:
    """Answer the route in JSON, with 404 when there is no such route. `hosts` are the "address:port" of the embedded STS."""
    route = (environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(PREFIX))
    match route:
        case ("GET", "health"):
            return _json({"ok": True})
        case ("GET", "inventory"):
            return _json(audit.inventory())
        case ("GET", "calls"):
            return _json(record.calls())
        case ("POST", "baseline"):
            audit.set_baseline()
            return _json({"ok": True})
        case ("GET", "leftovers"):
            return _json(audit.leftovers())
        case ("GET", "shortages"):
            return _json(shortages.current())
        case ("PUT" | "DELETE" as method, path) if path.startswith("shortages/") and path.count("/") == 2:
            _, instance_type, zone = path.split("/")
            (shortages.begin if method == "PUT" else shortages.end)(instance_type, zone)
            return _json(shortages.current())
        case ("PUT", path) if re.fullmatch(r"quotas/[A-Z0-9-]+/\d+", path):
            _, code, value = path.split("/")
            quotas.backend().values[code] = float(value)
            return _json(quotas.backend().values)
        case ("PUT", path) if path.startswith("interruptions/"):
            return _interrupt(path.removeprefix("interruptions/"))
        case ("POST", path) if path.startswith("token-review/"):
            return _review(environ, unquote(path.removeprefix("token-review/")), hosts)
    return _json({"error": f"no such route: {route[0]} {PREFIX}{route[1]}"}, HTTPStatus.NOT_FOUND)


def _interrupt(instance_id: str) -> Response:
    try:
        interruptions.interrupt(instance_id)
    except interruptions.NotRunning as error:
        return _json({"error": str(error)}, HTTPStatus.NOT_FOUND)
    return _json({"instance": instance_id, "ends_in_s": interruptions.NOTICE_S})


def _review(environ: WSGIEnvironment, cluster: str, hosts: frozenset[str]) -> Response:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    try:
        body = json.loads(environ["wsgi.input"].read(min(length, _MAX_BODY)))
        token = str(body["spec"]["token"])
    except (ValueError, KeyError, TypeError):
        return _json({"error": "the body is not a TokenReview"}, HTTPStatus.BAD_REQUEST)
    return _json(token_review.review(token, cluster, hosts))


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(json.dumps(value, default=str, indent=1), status, content_type="application/json")
