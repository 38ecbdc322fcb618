"""One lock per name: calls about the same thing wait for each other, all others run at the same time."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class KeyedLocks:
    """Locks by name. A lock is made at its first use and kept: there are as many as names were ever used."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock of this name; wait while another thread holds it."""
        with self._guard:
            lock = self._locks[name]
        with lock:
            yield
