"""A small HTTP API to watch and stop a load and to read its records, reached through the Kubernetes API server's pod proxy.

Routes::

    GET  /status                  {"now", "state", "sent", "started", "stopped", "node"}; times in seconds since the epoch
    GET  /records?offset=BYTES    complete lines of the records' file from there, at most 4 MiB; next offset = offset + length
    POST /stop                    stop sending, let live requests go on to their end; answers with the status
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from serving.load.run import Load

PIECE = 4 * 2**20
"""Bytes of records in one response at most."""


def status(load: Load) -> dict[str, Any]:
    """Return the state of the load, with times on its own clock."""
    return {
        "now": load.clock.now(),
        "state": load.state,
        "sent": load.sent,
        "started": load.started,
        "stopped": load.stopped,
        "node": os.environ.get("LEEWARD_NODE", ""),
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


def app(load: Load) -> web.Application:
    """Return the application with the three routes."""

    async def get_status(request: web.Request) -> web.Response:
        return web.json_response(status(load))

    async def get_records(request: web.Request) -> web.Response:
        try:
            body = whole_lines(load.records, int(request.query.get("offset", "0")))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        return web.Response(body=body, content_type="application/x-ndjson")

    async def post_stop(request: web.Request) -> web.Response:
        load.stop()
        return web.json_response(status(load))

    application = web.Application()
    application.add_routes([web.get("/status", get_status), web.get("/records", get_records), web.post("/stop", post_stop)])
    return application


@asynccontextmanager
async def serve(load: Load, port: int) -> AsyncIterator[int]:
    """Serve the API on all addresses inside the context; yields the port (a free one if `port` is 0)."""
    runner = web.AppRunner(app(load), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "0.0.0.0", port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
