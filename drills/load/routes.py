"""A small HTTP API to watch, multiply and stop a load and to read its records, reached through the Kubernetes API server's pod proxy.

Routes::

    GET  /status                  {"now", "state", "sent", "started", "stopped", "node", "checks"}; times in seconds since the epoch
    GET  /records?offset=BYTES    complete lines of the records' file from there, at most 4 MiB; next offset = offset + length
    POST /multiply?factor=N       send N times as much as planned from now on; answers with the status
    POST /stop                    stop sending, let live requests go on to their end; answers with the status
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from drills.load import http
from drills.load.run import Load

PIECE = 4 * 2**20
"""Bytes of records in one response at most."""
MOST = 10
"""Greatest factor by which a load is multiplied: that of a fault `surge` in drills/faults.py."""


def status(load: Load) -> dict[str, Any]:
    """Return the state of the load, with times on its own clock."""
    return {
        "now": load.clock.now(),
        "state": load.state,
        "sent": load.sent,
        "started": load.started,
        "stopped": load.stopped,
        "node": os.environ.get("LEEWARD_NODE", ""),
        "checks": load.learned.checks if load.learned else {},
    }


def whole_lines(file: Path, offset: int, most: int = PIECE) -> bytes:
    """Return the complete lines from the offset on, at most `most` bytes of them.

    Raises:
        ValueError: the offset is outside the file, or not where a line begins.
    """
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if not 0 <= offset <= size:
            raise ValueError(f"offset {offset} is outside the file of {size} bytes")
        stream.seek(max(0, offset - 1))
        if offset and stream.read(1) != b"\n":
            raise ValueError(f"no record begins at offset {offset}")
        data = stream.read(most)
    return data[: data.rfind(b"\n") + 1]


def _number(query: str, name: str) -> int:
    return int(parse_qs(query).get(name, ["0"])[0])


def answer(load: Load, method: str, target: str) -> http.Answer:
    """Return the answer to one request."""
    try:
        return _answer(load, method, target)
    except ValueError as error:
        return 400, "text/plain", f"{error}\n".encode()


def _answer(load: Load, method: str, target: str) -> http.Answer:
    parts = urlsplit(target)
    if (method, parts.path) == ("POST", "/stop"):
        load.stop()
    elif (method, parts.path) == ("POST", "/multiply"):
        if not 1 <= (factor := _number(parts.query, "factor")) <= MOST:
            raise ValueError(f"the factor is a whole number from 1 to {MOST}")
        load.factor = factor
    elif (method, parts.path) == ("GET", "/records"):
        load.read_at = load.clock.now()
        return 200, "application/x-ndjson", whole_lines(load.records, _number(parts.query, "offset"))
    elif (method, parts.path) != ("GET", "/status"):
        return 404, "text/plain", b"GET /status, GET /records?offset=BYTES, POST /multiply?factor=N, POST /stop\n"
    return 200, "application/json", json.dumps(status(load)).encode()


@asynccontextmanager
async def serve(load: Load, port: int) -> AsyncIterator[int]:
    """Serve the API on all addresses inside the context; yields the port (a free one if `port` is 0)."""
    server = await http.serve(lambda method, target: answer(load, method, target), port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
