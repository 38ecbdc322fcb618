"""The few calls of Prefect's REST API that a starter and an onlooker need, on the standard library."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from scripts.support.console import Console
from scripts.support.processes import Process

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
"""State types in which a flow run stays."""


SAY_EVERY_S = 10.0
"""Between two words of a wait."""


class ApiError(RuntimeError):
    """Prefect did not answer, or not with success; the text says to what and how."""


class NotUp(RuntimeError):
    """A service did not come up in time, or died; the text says what was seen last."""


class Api:
    """One Prefect server."""

    def __init__(self, url: str, timeout_s: float = 10) -> None:
        self.url, self._timeout = url.rstrip("/"), timeout_s
        # Loopback must not go through a proxy that the environment names.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        return self._call(urllib.request.Request(self.url + path))

    def post(self, path: str, body: object) -> Any:
        """What the server answers to `body`."""
        headers = {"Content-Type": "application/json"}
        return self._call(urllib.request.Request(self.url + path, json.dumps(body).encode(), headers))

    def _call(self, request: urllib.request.Request) -> Any:
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise ApiError(f"{request.full_url}: HTTP {error.code} {error.read(500).decode(errors='replace')}") from error
        except (OSError, ValueError) as error:
            raise ApiError(f"{request.full_url}: {error}") from error

    def healthy(self) -> bool:
        """The server answers."""
        return self.get("/health") is True

    def pool_ready(self, pool: str) -> bool:
        """A worker serves the work pool."""
        return bool(self.get(f"/work_pools/{pool}")["status"] == "READY")

    def flow_run(self, identity: str) -> dict[str, Any]:
        """The flow run with its state."""
        return dict(self.get(f"/flow_runs/{identity}"))

    def flow_run_named(self, name: str) -> str:
        """Id of the flow run of that name; raises ApiError when there is none."""
        found = self.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}, "limit": 1})
        if not found:
            raise ApiError(f"{self.url} knows no flow run named {name}")
        return str(found[0]["id"])

    def task_runs(self, flow_run: str) -> list[dict[str, Any]]:
        """All task runs of a flow run, in the order in which they were made."""
        of = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return self._pages("/task_runs/filter", of)

    def artifacts(self, flow_run: str) -> list[dict[str, Any]]:
        """The artifacts of a flow run in their latest form, oldest first."""
        of = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "CREATED_DESC"}
        latest = {one["key"] or one["id"]: one for one in reversed(self._pages("/artifacts/filter", of))}
        return sorted(latest.values(), key=lambda one: one["created"])

    def _pages(self, path: str, of: dict[str, Any], size: int = 200) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            page = self.post(path, {**of, "limit": size, "offset": len(rows)})
            rows += page
            if len(page) < size:
                return rows


def wait_until(what: str, holds: Callable[[], bool], within_s: float, process: Process, console: Console) -> None:
    """`holds()` was true once. Says what it waits for every few seconds.

    Raises:
        NotUp: not within `within_s` seconds, or `process` died; says what was seen last.
    """
    start = spoke = time.monotonic()
    seen = "no answer yet"
    while True:
        try:
            if holds():
                return
            seen = "answered, but not ready"
        except ApiError as error:
            seen = str(error)
        if not process.alive:
            raise NotUp(f"{what}: the services ended; last seen: {seen}")
        if time.monotonic() - start > within_s:
            raise NotUp(f"{what}: not within {within_s:.0f} s; last seen: {seen}")
        if time.monotonic() - spoke > SAY_EVERY_S:
            spoke = time.monotonic()
            console.print("prefect", f"… waiting for {what}, {spoke - start:.0f} s of at most {within_s:.0f} s")
        time.sleep(0.2)
