"""The Ray Serve application, `serving.app:app`: an API on every worker, in front of one engine on each.

    api      takes requests, turns words into tokens and back; no model, no accelerator
    engine   one model, one scheduler; its cores are its own

How many there are, where, and what each may take stands in manifests/rayservice.yaml and overrides what is written here.
`serve run serving.app:app` starts one of each on this machine.
"""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from serving.replica import Replica
from serving.settings import Settings

# What costs much to import is imported by the process that needs it: the Serve controller reads this module too, on a head
# that has neither the model's libraries nor its memory.


def load_serve_classes_locally() -> None:
    """Load the classes of Serve's actors from this process's own Ray, not from the GCS.

    When the head is replaced, its new proxy sends a handle of itself to every replica. Ray looks up the handle's class by an id that
    is new with every head, in the GCS, and synchronously in the event loop that moves all answers: replicas were seen to stand still
    for 1 to 12 s. The switch is Ray's own, the one behind `code_search_path` of a job; a class that is not found locally still comes
    from the GCS.
    """
    import ray.serve._private.proxy  # noqa: F401  # imported now, not in that event loop
    from ray._private.worker import global_worker

    global_worker.set_load_code_from_local(True)


class EngineReplica(Replica):
    """A replica of the engine inside a Ray actor."""

    async def __init__(self) -> None:
        load_serve_classes_locally()
        await super().__init__()


Engine = serve.deployment(
    name="engine",
    # More than its slots and its queue together, so that it is the engine that says "full", with all it knows.
    max_ongoing_requests=1024,
    request_router_config=RequestRouterConfig(request_router_class="serving.routing:Nearest"),
)(EngineReplica)


@serve.deployment(name="api", max_ongoing_requests=2048)
@serve.ingress()
class Api:
    """The HTTP side."""

    def __init__(self, engine: DeploymentHandle) -> None:
        from serving.remote import RemoteEngine
        from serving.tokenizer import Tokenizer

        load_serve_classes_locally()
        self._settings = Settings.from_env()
        self._tokenizer = Tokenizer(self._settings.model)
        self._engine = RemoteEngine(engine)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The routes; Serve calls this once in each replica."""
        from serving import api

        return api.build(self._engine, self._tokenizer, self._settings)


app = Api.bind(Engine.bind())
