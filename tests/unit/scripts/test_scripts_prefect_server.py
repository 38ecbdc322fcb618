"""The server's SQLite connections do not stop its event loop."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import aiosqlite
import aiosqlite.core
import pytest

from scripts.installed import prefect_server

BUSY_TIMEOUT_S = 2.0


async def forget_a_cursor_in_use(connection: aiosqlite.Connection) -> None:
    """Leave a cursor with a statement that has begun, as garbage that refers to itself, like the traceback of an error does."""
    cursor = await connection.execute("SELECT 1 UNION SELECT 2")
    garbage: list[object] = [cursor]
    garbage.append(garbage)
    await (await connection.execute("SELECT 1")).close()  # the thread refers to what its last call returned


async def write_beside_a_writer(database: Path) -> None:
    """Let one connection wait for the lock of another while garbage with a cursor of the first is collected in the event loop."""
    async with (
        aiosqlite.connect(database, isolation_level=None) as writer,
        aiosqlite.connect(database, timeout=BUSY_TIMEOUT_S, isolation_level=None) as other,
    ):
        await writer.execute("BEGIN IMMEDIATE")
        await forget_a_cursor_in_use(other)
        waiting = asyncio.ensure_future(other.execute("BEGIN IMMEDIATE"))
        await asyncio.sleep(0.2)
        gc.collect()
        await writer.execute("COMMIT")
        await waiting


def test_garbage_with_a_cursor_does_not_make_the_event_loop_wait_for_the_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gc.disable()
    monkeypatch.setattr(aiosqlite.core, "Cursor", aiosqlite.core.Cursor)
    try:
        with pytest.raises(aiosqlite.OperationalError, match="database is locked"):
            asyncio.run(write_beside_a_writer(tmp_path / "as-it-comes"))
        prefect_server.close_cursors_in_their_threads()
        asyncio.run(write_beside_a_writer(tmp_path / "ours"))
    finally:
        gc.enable()
