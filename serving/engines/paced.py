"""A step engine that is slowed down, so that the streams of a tiny model last as long as those of a large one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from serving.engines.contract import Limits, Logits, StepEngine

CATCH_UP_S = 1.0
"""Longest delay that later decodes catch up with."""


class PacedEngine:
    """Wraps a step engine and limits its decodes per second; prefills are not slowed down.

    Decodes follow a schedule instead of a fixed gap, so a late one does not delay those after it. Idle time is not a delay: after it a
    new schedule begins. The calling thread sleeps.
    """

    def __init__(
        self,
        engine: StepEngine,
        steps_per_s: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._every_s = 1 / steps_per_s
        self._now = now
        self._sleep = sleep
        self._due = -math.inf
        self._ended = -math.inf

    @property
    def limits(self) -> Limits:
        """The limits of the wrapped engine."""
        return self._engine.limits

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """Call the wrapped engine's prefill."""
        self._begin()
        try:
            return self._engine.prefill(slot, ids)
        finally:
            self._ended = self._now()

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Call the wrapped engine's decode when it is due."""
        self._wait(self._begin())
        try:
            return self._engine.decode(slots, tokens, positions)
        finally:
            self._ended = self._now()

    def close(self) -> None:
        """Close the wrapped engine."""
        self._engine.close()

    def _begin(self) -> float:
        now = self._now()
        if now - self._ended > self._every_s:
            self._due = max(self._due, now)
        return now

    def _wait(self, now: float) -> None:
        self._due = max(self._due, now - CATCH_UP_S)
        if self._due > now:
            self._sleep(self._due - now)
        self._due += self._every_s
