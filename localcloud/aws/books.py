"""Who may read and change moto's books."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

ONE_AT_A_TIME = Lock()
"""Held while a request is answered from moto's books, which are not made for threads: what one iterates over another changes.

Whoever holds it waits for no work in the background, and takes no resource's `lock`, which that work holds while the machine
does real things.
"""


@contextmanager
def given_back() -> Iterator[None]:
    """Within it others are answered: for a request that waits for something."""
    ONE_AT_A_TIME.release()
    try:
        yield
    finally:
        ONE_AT_A_TIME.acquire()
