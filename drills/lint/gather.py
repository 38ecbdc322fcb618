"""Reads the objects of a RayService from its cluster, or it alone from a file. What may not or cannot be read is not checked, and named."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from drills.kubernetes.api import Api, Object, Refused
from drills.lint import texts
from drills.lint.beside import beside
from drills.lint.living import LOOPBACK, Living, service_of, storage_hosts
from drills.runner import ray_objects
from drills.runner.discovery import NoRayService, choose, find_ray_service

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was read of a service."""

    living: Living
    unread: tuple[str, ...]
    """What could not be read, and why."""


def gather(api: Api, namespace: str, name: str | None) -> Gathered:
    """Read a RayService and what belongs to it.

    Args:
        name: Name of the RayService. None: the only one of the namespace.

    Raises:
        NoRayService: there is none of that name, or several and no name; the message lists them.
        Unavailable, Refused: the API server does not answer, or refuses the RayServices themselves.
    """
    chosen = find_ray_service(api, namespace, name)
    cluster = ray_objects.active_cluster(chosen)
    unread: list[str] = []

    def read(what: str, ask: Callable[[], T]) -> T | None:
        if not cluster:
            return None
        try:
            return ask()
        except Refused as error:
            if error.status != 403:
                raise
            unread.append(f"this role may not list {what}")
            return None

    core, label = f"/api/v1/namespaces/{namespace}", f"{ray_objects.CLUSTER}={cluster}"
    heads = read("services", lambda: api.items(f"{core}/services", labelSelector=f"{label},{ray_objects.NODE_TYPE}=head"))
    pods = read("pods", lambda: api.items(f"{core}/pods", labelSelector=label))
    karpenter = read("API groups", lambda: api.find("/apis/karpenter.sh/v1") is not None)
    budgets = read("poddisruptionbudgets", lambda: api.items(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"))
    if not cluster:
        unread.append("no Ray cluster of it exists yet")
    redis = None if pods is None else read("what the GCS's storage runs in", lambda: _redis(api, Living(chosen), pods))
    living = Living(
        ray_service=chosen,
        head_service=heads[0] if heads else None,
        pods=None if pods is None else tuple(pods),
        budgets=None if budgets is None or pods is None else tuple(budgets),
        karpenter=None if pods is None else karpenter,
        redis=redis,
    )
    return Gathered(living, (*unread, *_unnamed(living)))


def read_manifests(text: bytes, where: str, name: str | None) -> Gathered:
    """Read a RayService from YAML, in UTF-8 or UTF-16, as it would be applied.

    Args:
        where: The words for where the text is from.
        name: As of `gather`.

    Raises:
        NoRayService: as of `gather`; or the text is no YAML, or what is written there is no RayService that Kubernetes would take.
    """
    try:
        written = texts.objects(text)
    except texts.Unreadable as error:
        raise NoRayService(f"{where} is {error}") from None
    ray_services = [thing for thing in written if thing.get("kind") == "RayService"]
    others = sorted({str(thing["kind"]) for thing in written if thing.get("kind")})
    try:
        for ray_service in ray_services:
            texts.require(ray_service, texts.NAMED)
        chosen = choose(ray_services, name, where, f"only {', '.join(others)}" if others else "")
        texts.require(chosen, texts.RAY_SERVICE)
        living = Living(chosen)
        texts.require(living.serve_config, texts.SERVE_CONFIG, "serveConfigV2")
    except texts.Unreadable as error:
        raise NoRayService(f"{where} has a RayService that cannot be read: {error}") from None
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):  # what stands beside it may be anything
        living = beside(living, written)
    return Gathered(living, (*_no_text(living), *_unnamed(living)))


def _no_text(living: Living) -> tuple[str, ...]:
    if isinstance(living.spec.get("serveConfigV2") or "", str):
        return ()
    return ("serveConfigV2 as text: it is a mapping here, which Kubernetes refuses (write serveConfigV2: | before it)",)


def _unnamed(living: Living) -> tuple[str, ...]:
    # A configuration that cannot be understood is reported by the rules that look at it.
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
        if not living.serve_config.get("applications"):
            old = " (serveConfig is of KubeRay before 1.1, later ones ignore it)" if "serveConfig" in living.spec else ""
            return (f"what is deployed: serveConfigV2 names no application{old}",)
        if living.unnamed:
            return (f"what the code sets for {', '.join(living.unnamed)}: serveConfigV2 does not name them",)
    return ()


def _redis(api: Api, living: Living, pods: Sequence[Object]) -> tuple[Object, ...]:
    """Return the pods at the address of the GCS's storage; none where it is outside this Kubernetes cluster, or cannot be understood."""
    found: list[Object] = []
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
        for host in storage_hosts(living):
            if host in LOOPBACK:
                found += [pod for pod in pods if pod["metadata"].get("labels", {}).get(ray_objects.NODE_TYPE) == "head"]
            elif place := service_of(host, living.ray_service["metadata"]["namespace"]):
                core = f"/api/v1/namespaces/{place[0]}"
                for service in api.items(f"{core}/services", fieldSelector=f"metadata.name={place[1]}"):
                    if selector := service["spec"].get("selector"):
                        label = ",".join(f"{key}={value}" for key, value in selector.items())
                        found += api.items(f"{core}/pods", labelSelector=label)
    return tuple(pod for pod in found if "deletionTimestamp" not in pod["metadata"])
