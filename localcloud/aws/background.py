"""Work that outlives its request: the resource shows CREATING, MODIFYING or DELETING until it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def start(what: str, work: Callable[[], None]) -> None:
    """`work` runs in a thread of its own. It reports expected failures on its resource; any other is logged here."""

    def run() -> None:
        try:
            work()
        except Exception:
            log.exception("%s failed unexpectedly; its resource keeps the status it had", what)

    threading.Thread(target=run, name=what, daemon=True).start()
