"""The engine's deployment with a watch on it, for benchmarks.gaps. A module of its own: replicas import it by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import ClassVar

from benchmarks.timed import Step, Timed
from serving.engines import profiles
from serving.engines.contract import Limits, Piece, Request
from serving.engines.observer import Observer
from serving.settings import Settings


@dataclass
class Seen(Observer):
    """The gaps, as the scheduler tells them."""

    gaps_s: list[float] = field(default_factory=list)

    def next_tokens(self, gaps_s: Sequence[float]) -> None:
        """As many streams got one more token each."""
        self.gaps_s.extend(gaps_s)


def build(settings: Settings) -> Timed:
    """The engine of the settings, whose steps are noted: a profile's factory."""
    timed = Timed(profiles.named(settings.engine).make(settings))
    Watched.steps = timed.steps
    return timed


class Watched:
    """The engine's deployment for the same API, with a step engine and an observer that write down times."""

    steps: ClassVar[list[Step]] = []

    async def __init__(self) -> None:
        self._seen = Seen()
        settings = Settings.from_env()
        profile = replace(profiles.named(settings.engine), factory="benchmarks.watched:build")
        self._engine = profile.text_engine(settings, self._seen)
        self._engine.start()
        await self._engine.ready()

    async def ready(self) -> Limits:
        """See serving.app.Engine."""
        return await self._engine.ready()

    async def generate(self, request: Request) -> AsyncIterator[Piece]:
        """See serving.app.Engine."""
        async with aclosing(self._engine.generate(request)) as pieces:
            async for piece in pieces:
                yield piece

    async def told(self) -> tuple[list[Step], list[float]]:
        """All steps and gaps so far."""
        return list(self.steps), list(self._seen.gaps_s)
