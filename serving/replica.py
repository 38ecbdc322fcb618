"""What a replica of the engine's deployment does: one model, loaded, warmed up, and answering until it is told to go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from serving.engines.contract import Limits, NotReady, Piece, Request
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.engines.callbacks import Observer
    from serving.engines.profiles import Profile


class Replica:
    """The engine that the settings name. Serve makes it, asks it, looks after it and ends it."""

    async def __init__(self, profile: Profile | None = None, observer: Observer | None = None) -> None:
        """Others than the settings' profile and the metrics are for measurements."""
        # Imported here: the Serve controller reads this module too, and on Neuron the cores are the process's only by now.
        from serving.engines import profiles
        from serving.metrics import Metrics

        settings = Settings.from_env()
        self._metrics = Metrics()
        self._profile = profile or profiles.named(settings.engine)
        self._engine = self._profile.text_engine(settings, observer or self._metrics)
        self._engine.start()
        # Serve sends requests once this returns: a replica that is there is warm.
        await self._engine.ready()

    async def ready(self) -> Limits:
        """What it can take."""
        return await self._engine.ready()

    async def generate(self, request: Request) -> AsyncIterator[Piece]:
        """The answer as it grows."""
        async with aclosing(self._engine.generate(request)) as pieces:
            async for piece in pieces:
                yield piece

    def check_health(self) -> None:
        """Serve asks this regularly, and replaces a replica that is broken, or stuck in one step."""
        self._metrics.look(self._engine.stats())
        try:
            self._engine.check()
        except NotReady as error:
            self._profile.abandon(error)
            raise

    async def __del__(self) -> None:
        # Serve has waited for the streams by now.
        try:
            await self._engine.stop()
        except NotReady as error:
            self._profile.abandon(error)
