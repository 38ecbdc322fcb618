"""The engine's deployment with a watch on it, for benchmarks.gaps. A module of its own: replicas import it by its name."""

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
class Seen(EngineCallbacks):
    """The gaps, as the scheduler tells them."""

    gaps_s: list[float] = field(default_factory=list)

    def next_tokens(self, gaps_s: Sequence[float]) -> None:
        """As many streams got one more token each."""
        self.gaps_s.extend(gaps_s)


def build(settings: Settings) -> Timed:
    """The engine of the settings, whose steps are noted: a profile's factory."""
    timed = Timed(profiles.named(settings.engine).make_step_engine(settings))
    Watched.steps = timed.steps
    return timed


class Watched(Replica):
    """The engine's deployment with a step engine and callbacks that write down times."""

    steps: ClassVar[list[Step]] = []

    async def __init__(self) -> None:
        self._seen = Seen()
        profile = replace(profiles.named(Settings.from_env().engine), step_engine="benchmarks.watched:build")
        await super().__init__(profile, self._seen)

    async def told(self) -> tuple[list[Step], list[float]]:
        """All steps and gaps so far."""
        return list(self.steps), list(self._seen.gaps_s)
