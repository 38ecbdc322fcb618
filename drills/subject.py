"""What is drilled: a RayService that runs, the Services at which it answers, and the namespace for what a drill itself puts there."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import Field

from drills.value import Value

HOME = "leeward-load"
"""Namespace of the lock, the journal and the load of services that this pipeline deployed."""

Port = Annotated[int, Field(ge=1, le=65535)]


class Probe(Value):
    """A small real request that a drill sends at every look, through the API server, which passes on all headers but Authorization."""

    method: Literal["GET", "POST", "PUT"] = "GET"
    path: str
    """Path and query of the URL."""
    body: Any = None
    """JSON value that is sent."""
    one_text: bool = False
    """Whether the answer must be a JSON list of one text; otherwise status 200 is enough."""
    own_key: bool = False
    """Whether it carries the key of Leeward's own services, from their Secret; other services' Secrets are not read."""


INFER = Probe(path=f"/infer?{urlencode({'sentence': 'Is anybody there?', 'max_tokens': 2})}", one_text=True, own_key=True)
"""The probe of Leeward's own services."""


class Subject(Value):
    """A RayService and where its parts answer. The names of its Services are KubeRay's own where none are given."""

    namespace: str
    """Namespace of the RayService."""
    name: str
    """Name of the RayService."""
    home: str = HOME
    """Namespace of the drill's lock, journal and load."""
    serve_service: str = Field(default_factory=lambda known: f"{known['name']}-serve-svc")
    """Name of the Service that the users' requests go to."""
    serve_port: Port = 8000
    head_service: str = Field(default_factory=lambda known: f"{known['name']}-head-svc")
    """Name of the Service in front of the head."""
    dashboard_port: Port = 8265
    """Port of Ray's dashboard at the head's Service."""

    probe: Probe | None = INFER
    """None: no request is sent, and the load alone shows whether the service answers."""

    @property
    def key(self) -> str:
        """Key of the service, unique in the cluster because names contain no dots."""
        return f"{self.namespace}.{self.name}"

    @property
    def url(self) -> str:
        """URL of the service inside the cluster."""
        return f"http://{self.serve_service}.{self.namespace}.svc:{self.serve_port}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
