"""A very small Kubernetes client, for what the machine itself does in a cluster: read nodes, apply its own objects.

The official client would cost a second and 60 MB in the supervisor, for four verbs.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from localcloud.machine.interface import MachineError
from localcloud.machine.pki import Pair

FIELD_MANAGER = "leeward-machine"
_DEADLINE = 60.0


class KubeApi:
    """A client of the API server that authenticates with a client certificate. Thread-safe."""

    def __init__(self, host: str, port: int, ca: Path, client: Pair) -> None:
        self._address = (host, port)
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._tls.load_cert_chain(client.certificate, client.key)

    def readiness_problem(self) -> str | None:
        """Return None when /readyz answers 200, else what came instead."""
        try:
            status, body = self._exchange("GET", "/readyz", None, "")
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        return None if status == 200 else f"/readyz: {status} {body[-200:]!r}"

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the object, or None when there is none."""
        return self._call("GET", path, None, "", missing_ok=True)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Create an object; return it as the server answers it."""
        return self._call("POST", path, body, "application/json")

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Set these fields of the object (a merge patch)."""
        return self._call("PATCH", path, body, "application/merge-patch+json")

    def apply(self, path: str, manifest: dict[str, Any]) -> dict[str, Any] | None:
        """Create or change the object at `path` to match the manifest (server-side apply)."""
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        return self._call("PATCH", path + query, manifest, "application/apply-patch+yaml")

    def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Delete the object, if it exists."""
        query = "" if grace_seconds is None else f"?gracePeriodSeconds={grace_seconds}"
        self._call("DELETE", path + query, None, "", missing_ok=True)

    def _call(self, method: str, path: str, body: dict[str, Any] | None, kind: str, missing_ok: bool = False) -> dict[str, Any] | None:
        try:
            status, answer = self._exchange(method, path, body, kind)
        except OSError as error:
            raise MachineError(f"{method} {path}: the API server does not answer ({error})") from error
        if status == 404 and missing_ok:
            return None
        if status >= 300:
            raise MachineError(f"{method} {path}: {status} {answer[:400].decode(errors='replace')}")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None, kind: str) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(*self._address, timeout=_DEADLINE, context=self._tls)
        try:
            headers = {"Content-Type": kind} if kind else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
