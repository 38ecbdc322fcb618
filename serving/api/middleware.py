"""What happens before a body is parsed: equal requests become the same one; those without the API key or too large are refused."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.problems import Problem

MOST_BYTES = 4 * 1024 * 1024
"""Largest body. A prompt of 32 768 tokens has about 200 KB; escaped, and with the JSON around it, it is still smaller than this."""
OPEN = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""Paths that need no key: probes have none."""


class AuthMiddleware:
    """Passes on requests with the key, in `Authorization: Bearer KEY` or `x-api-key: KEY`, and a body of at most MOST_BYTES.

    The second header exists because the Kubernetes API server uses Authorization for itself when it forwards a request.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 413, or pass the request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope = _plain(scope)
        headers = dict(scope["headers"])
        problem = self._problem(scope["path"], headers)
        if problem:
            return await problem.response()(scope, receive, send)
        await self._app(scope, _bounded(receive), send)

    def _problem(self, path: str, headers: Mapping[bytes, bytes]) -> Problem | None:
        if self._key and path not in OPEN and not self._has_key(headers):
            return Problem(401, "the API key is missing or wrong", "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        length = headers.get(b"content-length", b"")
        return Problem(413, _TOO_LARGE) if length.isdigit() and int(length[:20]) > MOST_BYTES else None

    def _has_key(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = (token.strip() if scheme.lower() == b"bearer" else b"", headers.get(b"x-api-key", b""))
        return any([hmac.compare_digest(one, self._key) for one in given])


_TOO_LARGE = f"the body has more than {MOST_BYTES} bytes"


def _plain(scope: Scope) -> Scope:
    """Return the scope with HEAD as GET, of which the server sends no body, and without a slash at the end of the path."""
    path: str = scope["path"]
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return {**scope, "method": method, "path": path.rstrip("/") or "/"}


def _bounded(receive: Receive) -> Receive:
    """Wrap `receive` so that it reads no more than MOST_BYTES: a body need not declare its length."""
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return bounded
