"""Prefect's command, for a server whose SQLite database cannot stop its event loop.

`python -m scripts.installed.prefect_server server start` takes what `prefect server start` takes.

aiosqlite runs each connection in a thread of its own, but a cursor that was never closed, as after a statement that failed, is
freed by whatever thread collects the garbage. When that is the thread of the event loop, SQLite makes it wait for the
connection. The connection may just be waiting for the lock of another one, whose transaction ends in the event loop. Then
nothing answers until SQLite gives up: a minute, with Prefect's settings. Seen in aiosqlite 0.22.1 under Prefect 3.8.
"""

from __future__ import annotations

import aiosqlite
import aiosqlite.core
from prefect.cli import app


class Cursor(aiosqlite.Cursor):
    """A cursor that is closed by its connection's thread even if it was only forgotten."""

    _closed = False

    async def close(self) -> None:
        """Close the cursor, and remember that."""
        self._closed = True
        await super().close()

    def __del__(self) -> None:
        """Ask the connection's thread to close the cursor, and do not wait for that."""
        if not self._closed:
            self._conn._tx.put_nowait((None, self._cursor.close))


def close_cursors_in_their_threads() -> None:
    """Make aiosqlite use that cursor for all connections of this process."""
    aiosqlite.core.Cursor = Cursor  # type: ignore[misc]


if __name__ == "__main__":
    close_cursors_in_their_threads()
    app()
