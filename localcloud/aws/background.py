"""Work that outlives its request: the resource shows CREATING, MODIFYING or DELETING until it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def start(what: str, work: Callable[[], None]) -> threading.Thread:
    """`work` runs in the thread returned. It reports expected failures on its resource; any other is logged here."""

    def run() -> None:
        try:
            work()
        except Exception:
            log.exception("%s failed unexpectedly; its resource keeps the status it had", what)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    return thread
