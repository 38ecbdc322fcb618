"""The Ray Serve application, `serving.app:app`: an API on every worker, in front of one engine on each.

    api      takes requests, turns words into tokens and back; no model, no accelerator
    engine   one model, one scheduler; its cores are its own

How many there are, where, and what each may take stands in manifests/rayservice.yaml and overrides what is written here.
`serve run serving.app:app` starts one of each on this machine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import FastAPI
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from serving.engines.contract import Limits, NotReady, Piece, Request
from serving.settings import Settings

# What costs much to import is imported by the process that needs it: the Serve controller reads this module too, on a head
# that has neither the model's libraries nor its memory; and on Neuron the cores are the process's only once it has started.


@serve.deployment(
    name="engine",
    # More than its slots and its queue together, so that it is the engine that says "full", with all it knows.
    max_ongoing_requests=1024,
    request_router_config=RequestRouterConfig(request_router_class="serving.routing:Nearest"),
)
class Engine:
    """A replica of the model: loads it, warms it up, then answers until it is told to go."""

    async def __init__(self) -> None:
        from serving.engines import profiles
        from serving.metrics import Metrics

        settings = Settings.from_env()
        self._metrics = Metrics()
        self._profile = profiles.named(settings.engine)
        self._engine = self._profile.text_engine(settings, self._metrics)
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


@serve.deployment(name="api", max_ongoing_requests=2048)
@serve.ingress()
class Api:
    """The HTTP side."""

    def __init__(self, engine: DeploymentHandle) -> None:
        from serving.remote import RemoteEngine
        from serving.tokenizer import Tokenizer

        self._settings = Settings.from_env()
        self._tokenizer = Tokenizer(self._settings.model)
        self._engine = RemoteEngine(engine)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The routes; Serve calls this once in each replica."""
        from serving import api

        return api.build(self._engine, self._tokenizer, self._settings)


app = Api.bind(Engine.bind())
