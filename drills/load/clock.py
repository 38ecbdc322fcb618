"""One clock for all times of a load: seconds since the epoch, without jumps."""

from __future__ import annotations

import time


class Clock:
    """Reads the system time once and then follows the monotonic clock: setting the machine's time changes no latency."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.monotonic() + self._offset
