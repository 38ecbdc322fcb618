"""The Ray Serve application, `serving.app:app`: one deployment, one model a replica.

How many replicas, on how many nodes, and which accelerator cores each takes stands in manifests/rayservice.yaml, and
overrides what is written here. `serve run serving.app:app` starts one replica on this machine.
"""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve

from serving.settings import Settings


# Serve's default of five requests at once makes the sixth wait for the end of a stream.
@serve.deployment(name="mistral", max_ongoing_requests=64)
@serve.ingress()
class Mistral:
    """A replica: loads the model once, then answers until it is told to go."""

    def __init__(self) -> None:
        # Imported here: the Serve controller imports this module too, and it must not load torch; and on Neuron the
        # cores are the process's only once its actor has started.
        from serving.generation import Generator
        from serving.model import Model
        from serving.tokenizer import Tokenizer

        self._settings = Settings.from_env()
        self._generator = Generator(Model(self._settings.model), Tokenizer(), self._settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The routes, built once the model is loaded; Serve calls this."""
        from serving import api

        return api.build(self._generator, self._settings)

    async def check_health(self) -> None:
        """Serve asks this regularly, and replaces a replica whose model no longer computes."""
        await self._generator.probe()


app = Mistral.bind()
