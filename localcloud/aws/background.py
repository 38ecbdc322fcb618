"""Work that outlives its request: the resource shows CREATING, MODIFYING or DELETING until it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def start(name: str, work: Callable[[], None]) -> threading.Thread:
    """Run `work` in a daemon thread of that name, and return the thread.

    `work` reports the failures that it expects on its resource; any other is logged here.
    """

    def run() -> None:
        try:
            work()
        except Exception:
            log.exception("%s failed unexpectedly; its resource keeps the status it had", name)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
