"""One lock per thing, by name: calls about the same thing wait for each other, all others run at once."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class KeyedLocks:
    """Locks that are made when they are first asked for, and kept: there are as many as things ever named."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Nobody else is here for the thing of this name."""
        with self._guard:
            lock = self._locks[name]
        with lock:
            yield
