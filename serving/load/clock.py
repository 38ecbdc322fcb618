"""One clock for all times of a load: seconds since the epoch that never jump."""

from __future__ import annotations

import time


class Clock:
    """Started once, then driven by the monotonic clock: setting the machine's time changes no latency."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.monotonic() + self._offset
