"""The lock that serialises access to moto's state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

MOTO_LOCK = Lock()
"""Held while a request is answered: moto's backends are not thread-safe, one request changes what another iterates over.

Background work takes it for each change of moto's state, and releases it before a call of the machine that takes time.

Locks are taken in one order, so there is no deadlock: first the `lock` of one resource (a cluster, a node group, a
replication group), which background work holds for as long as the machine takes; then this one; then the locks inside
single modules, under which nothing is waited for. So never take a resource's `lock`, and never wait for background work,
while holding this one. It is not re-entrant.
"""


@contextmanager
def released() -> Iterator[None]:
    """Release the lock within the block, so that other requests are answered while this one waits for something."""
    MOTO_LOCK.release()
    try:
        yield
    finally:
        MOTO_LOCK.acquire()
