"""A step engine that takes its time, so that a tiny model's streams live as long as a large one's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from serving.engines.contract import Limits, Logits, StepEngine

CATCH_UP_S = 1.0
"""Of being late, no more than this is made up for."""


class PacedEngine:
    """Another step engine with at most so many decodes a second; prefills take what they take.

    Decodes follow a schedule, not the gap before, so one that is late does not delay those after it. Time in which nobody
    asked for anything is no lateness: after it the schedule begins anew. It sleeps in the thread that calls it.
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
        """The other engine's."""
        return self._engine.limits

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """As the other engine does."""
        self._begin()
        try:
            return self._engine.prefill(slot, ids)
        finally:
            self._ended = self._now()

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """As the other engine does, not before it is due."""
        self._wait(self._begin())
        try:
            return self._engine.decode(slots, tokens, positions)
        finally:
            self._ended = self._now()

    def close(self) -> None:
        """As the other engine does."""
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
