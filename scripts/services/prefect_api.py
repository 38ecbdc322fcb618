"""The few calls of Prefect's REST API that starting and following runs need, on the standard library."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from localcloud.progress import format_seconds
from scripts.support.console import Console
from scripts.support.processes import Process

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opener for addresses on this machine, which ignores the proxies of the environment."""
TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
"""State types that a flow run does not leave."""

PAGE = 200
"""Rows that a filter returns at most at once."""
BUSY = 503
"""Status with which Prefect answers while its SQLite database is locked; nothing was done, and its own client asks again, too."""
BUSY_FOR_S = 60.0
"""Seconds for which a call is repeated while the database is locked."""
PRINT_EVERY_S = 10.0
"""Seconds between two progress lines of a wait."""


class ApiError(RuntimeError):
    """Prefect did not answer, or with an error; the text has the URL and the reason."""


class NotUp(RuntimeError):
    """A service did not come up in time, or ended; the text has the last observation."""


class Api:
    """Client of one Prefect server."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str) -> Any:
        """Return the JSON at `path`."""
        return self._call(urllib.request.Request(self.url + path))

    def post(self, path: str, body: object) -> Any:
        """Post `body` as JSON and return the server's JSON answer."""
        headers = {"Content-Type": "application/json"}
        return self._call(urllib.request.Request(self.url + path, json.dumps(body).encode(), headers))

    def _call(self, request: urllib.request.Request) -> Any:
        end = time.monotonic() + BUSY_FOR_S
        while True:
            try:
                with DIRECT.open(request, timeout=10) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != BUSY or time.monotonic() > end:
                    raise ApiError(f"{request.full_url}: HTTP {error.code} {error.read(500).decode(errors='replace')}") from error
                error.close()
            except (OSError, ValueError) as error:
                raise ApiError(f"{request.full_url}: {error}") from error
            time.sleep(1)

    def healthy(self) -> bool:
        """Whether the server reports itself healthy; raises ApiError when it does not answer."""
        return self.get("/health") is True

    def pool_ready(self, pool: str) -> bool:
        """Whether a worker serves the work pool."""
        return bool(self.get(f"/work_pools/{pool}")["status"] == "READY")

    def flow_run(self, identity: str) -> dict[str, Any]:
        """Return the flow run with its state."""
        return dict(self.get(f"/flow_runs/{identity}"))

    def flow_run_named(self, name: str) -> str:
        """Return the id of the flow run of this name; raises ApiError when there is none."""
        found = self.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}, "limit": 1})
        if not found:
            raise ApiError(f"{self.url} has no flow run named {name}")
        return str(found[0]["id"])

    def task_runs(self, flow_run: str) -> list[dict[str, Any]]:
        """Return all task runs of a flow run, in the order of their expected start."""
        criteria = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return self._all_pages("/task_runs/filter", criteria)

    def artifacts(self, flow_run: str) -> list[dict[str, Any]]:
        """Return the latest version of each artifact of a flow run, oldest first."""
        criteria = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "CREATED_DESC"}
        latest = {one["key"] or one["id"]: one for one in reversed(self._all_pages("/artifacts/filter", criteria))}
        return sorted(latest.values(), key=lambda one: one["created"])

    def _all_pages(self, path: str, criteria: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            page = self.post(path, {**criteria, "limit": PAGE, "offset": len(rows)})
            rows += page
            if len(page) < PAGE:
                return rows


def wait_until(what: str, holds: Callable[[], bool], within_s: float, process: Process, console: Console) -> None:
    """Wait until `holds()` is true; print what is waited for every PRINT_EVERY_S seconds.

    Raises:
        NotUp: not within `within_s` seconds, or `process` ended; the text has the last observation.
    """
    start = last_printed = time.monotonic()
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
        if time.monotonic() - last_printed > PRINT_EVERY_S:
            last_printed = time.monotonic()
            console.detail("prefect", f"… waiting for {what}, {format_seconds(last_printed - start)} of at most {format_seconds(within_s)}")
        time.sleep(0.2)
