"""Who may read and change moto's books."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

MOTO_LOCK = Lock()
"""Held while a request is answered from moto's books, which are not made for threads: what one iterates over another changes.

Work in the background takes it for each change of them, and lets it go before it asks the machine for anything that takes time.
No deadlock can be, because locks are taken in one order alone: a resource's own `lock` (of a cluster, a node group, a replication
group), which work in the background holds for as long as the machine takes; then this one; then the guards of single modules,
below which nothing is waited for. So whoever holds this one takes no resource's `lock`, and waits for no work in the background.
Neither does anybody take it twice.
"""


@contextmanager
def released() -> Iterator[None]:
    """Within it others are answered: for a request that waits for something."""
    MOTO_LOCK.release()
    try:
        yield
    finally:
        MOTO_LOCK.acquire()
