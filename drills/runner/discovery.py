"""Finds any RayService, and the Services at which it answers, by KubeRay's labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from blocks.errors import Permanent
from drills.kubernetes.api import Api, Object, Refused
from drills.runner import ray_objects
from drills.subject import Probe, Subject

FROM = "ray.io/originated-from-cr-name"
"""Label of KubeRay's Services with the name of their RayService."""
SERVE = "ray.io/serve"
"""Label of the Service that the users' requests go to; its value is NAME-serve."""


class NoRayService(Permanent):
    """There is no such RayService, or it is not clear which one is meant."""


def find_ray_service(api: Api, namespace: str, name: str | None) -> Object:
    """Return the RayService of that name; without a name the only one of the namespace.

    Raises:
        NoRayService: there is none of that name, or several and no name; the message lists them.
        Unavailable, Refused: the API server does not answer, or refuses.
    """
    where = f"namespace {namespace!r}"
    return choose(api.items(f"/apis/ray.io/v1/namespaces/{namespace}/rayservices"), name, where, "or there is no such namespace")


def choose(ray_services: Iterable[Object], name: str | None, where: str, unless: str = "") -> Object:
    """Return the RayService of that name; without a name the only one.

    Args:
        where: The words for where they were found.
        unless: Another reason why there may be none.

    Raises:
        NoRayService: as of `find_ray_service`.
    """
    found = [(str(item["metadata"]["name"]), item) for item in ray_services]
    if not found:
        raise NoRayService(", ".join(filter(None, [f"{where} has no RayService", unless])))
    chosen = [item for known, item in found if name in (None, known)]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        wanted = f"no RayService {name!r}"
    else:
        wanted = f"several RayServices {name!r}" if name else "several RayServices: choose one with --service"
    raise NoRayService(f"{where} has {wanted}; there are: {', '.join(sorted(known for known, _ in found))}")


def find_subject(api: Api, namespace: str, name: str | None, probe: Probe | None) -> Subject:
    """Return the RayService as what is drilled; a drill keeps its lock, journal and load in the same namespace.

    Raises:
        NoRayService: see `find_ray_service`.
    """
    name = str(find_ray_service(api, namespace, name)["metadata"]["name"])
    subject = Subject(namespace=namespace, name=name, home=namespace, probe=probe)
    try:
        services = api.items(f"/api/v1/namespaces/{namespace}/services", labelSelector=f"{FROM}={name}")
    except Refused as error:
        if error.status != 403:
            raise
        return subject  # with KubeRay's own names, which most services have
    serve = _chosen(services, subject.serve_service, lambda labels: labels.get(SERVE) == f"{name}-serve")
    head = _chosen(services, subject.head_service, lambda labels: labels.get(ray_objects.NODE_TYPE) == "head")
    found = {
        "serve_service": serve and serve["metadata"]["name"],
        "serve_port": serve and _port(serve, "serve"),
        "head_service": head and head["metadata"]["name"],
        "dashboard_port": head and _port(head, "dashboard"),
    }
    return subject.model_copy(update={key: value for key, value in found.items() if value})


def _chosen(services: Iterable[Object], usual: str, fits: Callable[[Mapping[str, str]], bool]) -> Object | None:
    """Return the Service with the usual name among those with fitting labels, else the first of them."""
    fitting = [service for service in services if fits(service["metadata"].get("labels") or {})]
    return next((s for s in fitting if s["metadata"]["name"] == usual), fitting[0] if fitting else None)


def _port(service: Object, name: str) -> int | None:
    """Return the Service's port of that name, or whose name begins with it and is not gRPC's; its only port; None where it is not
    clear. KubeRay lists the ports in any order."""
    ports = service["spec"].get("ports") or []
    named = sorted((str(p.get("name", "")), int(p["port"])) for p in ports)
    fitting = [port for word, port in named if word == name or (word.startswith(f"{name}-") and "grpc" not in word)]
    return fitting[0] if fitting else int(ports[0]["port"]) if len(ports) == 1 else None
