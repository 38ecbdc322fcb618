"""What a replica of the engine's deployment does: one model, loaded and warmed up, that answers until Serve ends the replica."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from serving.engines.contract import Limits, NotReady, Piece, Request
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.engines.callbacks import EngineCallbacks
    from serving.engines.profiles import Profile


class Replica:
    """The engine that the settings name. Serve creates it, sends it requests, checks its health and deletes it."""

    async def __init__(self, profile: Profile | None = None, callbacks: EngineCallbacks | None = None) -> None:
        """Measurements give a profile or callbacks of their own; otherwise the settings' profile and the metrics are used."""
        # Imported here: the Serve controller reads this module too, and on Neuron the process must have its cores before the import.
        from serving.engines import profiles
        from serving.metrics import Metrics

        settings = Settings.from_env()
        self._metrics = Metrics()
        self._profile = profile or profiles.named(settings.engine)
        self._engine = self._profile.make_text_engine(settings, callbacks or self._metrics)
        self._engine.start()
        # Serve sends requests once this returns: a replica that gets requests is warm.
        await self._engine.ready()

    async def ready(self) -> Limits:
        """Return the engine's limits once it can answer."""
        return await self._engine.ready()

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Yield the answer as it grows. If the engine cannot answer, its process ends, and the API asks another engine."""
        try:
            async with aclosing(self._engine.generate(request)) as pieces:
                async for piece in pieces:
                    yield piece
        except NotReady as error:  # it was ready before Serve sent requests
            self._profile.abandon(error)

    def check_health(self) -> None:
        """Return if the engine works. Serve calls this regularly."""
        self._metrics.record(self._engine.stats())
        try:
            self._engine.check()
        except NotReady as error:
            self._profile.abandon(error)

    async def __del__(self) -> None:
        # Serve calls this when the streams have ended.
        try:
            await self._engine.stop()
        except NotReady as error:
            self._profile.abandon(error)
