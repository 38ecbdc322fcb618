"""What is drilled: a RayService that runs, the Services at which it answers, and the namespace for what a drill itself puts there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from drills.value import Value

__all__ = ["HOME", "Subject"]

HOME = "leeward-load"
"""Namespace of the lock, the journal and the load of services that this pipeline deployed."""

Port = Annotated[int, Field(ge=1, le=65535)]


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
