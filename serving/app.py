"""The Ray Serve application, `serving.app:app`: an API on every worker, in front of one engine on each.

    api      takes requests, turns text into tokens and back; no model, no accelerator
    engine   one model, one scheduler, with cores of its own

Number, placement and limits of the replicas are in manifests/rayservice.yaml and override what is written here.
`serve run serving.app:app` starts one of each on this machine.
"""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from serving.replica import Replica
from serving.settings import Settings

# Large libraries are imported inside the process that needs them: the Serve controller reads this module too, on a head that has
# neither the model's libraries nor the memory for them.


def load_serve_classes_locally() -> None:
    """Load the classes of Serve's actors from this process's own Ray, not from the GCS.

    When the head is replaced, its new proxy sends a handle of itself to every replica. Ray looks up the handle's class by an id that
    is new with every head, in the GCS, and synchronously in the event loop that passes on all answers: this stopped replicas for 1 to
    12 s. The switch is Ray's own, the one behind `code_search_path` of a job; a class that is not found locally still comes from the GCS.
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
    # More than slots and queue together, so that the engine itself refuses a request, with the exact reason.
    max_ongoing_requests=1024,
    request_router_config=RequestRouterConfig(request_router_class="serving.routing:Nearest"),
)(EngineReplica)


@serve.deployment(name="api", max_ongoing_requests=2048)
@serve.ingress()
class Api:
    """The deployment that answers HTTP requests."""

    def __init__(self, engine: DeploymentHandle) -> None:
        from serving.remote import RemoteEngine
        from serving.tokenizer import Tokenizer

        load_serve_classes_locally()
        self._settings = Settings.from_env()
        self._tokenizer = Tokenizer(self._settings.model)
        self._engine = RemoteEngine(engine)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the ASGI application; Serve calls this once in each replica."""
        from serving import api

        return api.build_app(self._engine, self._tokenizer, self._settings)


app = Api.bind(Engine.bind())
