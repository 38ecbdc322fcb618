"""The engine's deployment with recorded times, for benchmarks.gaps. It is a separate module because replicas import it by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from benchmarks.timed import Step, Timed
from serving.engines import profiles
from serving.engines.callbacks import EngineCallbacks
from serving.replica import Replica
from serving.settings import Settings


@dataclass
class GapRecorder(EngineCallbacks):
    """Records the gaps that the scheduler reports."""

    gaps_s: list[float] = field(default_factory=list)

    def next_tokens(self, gaps_s: Sequence[float]) -> None:
        """Record the gaps of streams that got one more token each."""
        self.gaps_s.extend(gaps_s)


def build(settings: Settings) -> Timed:
    """Return the step engine of the settings with recorded steps; a profile's factory."""
    timed = Timed(profiles.named(settings.engine).make_step_engine(settings))
    Watched.steps = timed.steps
    return timed


class Watched(Replica):
    """The engine's deployment, which records the times of steps and gaps."""

    steps: ClassVar[list[Step]] = []

    async def __init__(self) -> None:
        self._gaps = GapRecorder()
        profile = replace(profiles.named(Settings.from_env().engine), step_engine="benchmarks.watched:build")
        await super().__init__(profile, self._gaps)

    async def times(self) -> tuple[list[Step], list[float]]:
        """Return all steps and gaps so far."""
        return list(self.steps), list(self._gaps.gaps_s)
