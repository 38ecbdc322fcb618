"""A step engine that records the beginning and the end of each step, on the machine's monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from serving.engines.contract import Limits, Logits, StepEngine


class Step(NamedTuple):
    """One call of the engine; seconds of the monotonic clock, which all processes of a machine share."""

    kind: Literal["prefill", "decode"]
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """Duration of the step."""
        return self.ended - self.began


class Timed:
    """Wraps a StepEngine and records its steps."""

    def __init__(self, engine: StepEngine) -> None:
        self._engine = engine
        self.steps: list[Step] = []

    @property
    def limits(self) -> Limits:
        """The limits of the wrapped engine."""
        return self._engine.limits

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """Call the wrapped engine's prefill, and record the step."""
        began = time.monotonic()
        logits = self._engine.prefill(slot, ids)
        self.steps.append(Step("prefill", began, time.monotonic()))
        return logits

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Call the wrapped engine's decode, and record the step."""
        began = time.monotonic()
        logits = self._engine.decode(slots, tokens, positions)
        self.steps.append(Step("decode", began, time.monotonic()))
        return logits

    def close(self) -> None:
        """Close the wrapped engine."""
        self._engine.close()
