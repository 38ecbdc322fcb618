"""Limits of an engine's workers and the resources that they request, read from manifests/engine-NAME.yaml and model-NAME.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from blocks.parameters import ENGINES, Engine, Inf2Nodes, Inf2Type, Scaling, Service
from drills.kubernetes import manifests

SIZES: Mapping[Inf2Type, tuple[int, int]] = {
    "inf2.xlarge": (4, 16),
    "inf2.8xlarge": (32, 128),
    "inf2.24xlarge": (96, 384),
    "inf2.48xlarge": (192, 768),
}
"""vCPUs and GiB of memory of each instance type."""
READY_WITHIN = "leeward.dev/ready-within-s"
"""Annotation of a RayService, set by the engine's manifest."""
IMAGE_GIB = 20
"""Size of the largest image, which is Neuron's."""
SIZED_FOR = 0.75
"""Share of its slots for which a replica is sized, so that the next one starts before requests wait."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Limits and resource requests of one worker."""

    slots: int
    """Largest number of requests that are computed at once."""
    tokens: int
    """Length of the longest answer."""
    cpus: float
    memory_gib: int
    disk_gib: int
    """Sum of the size limits of its volumes."""
    ready_within_s: float
    """Seconds that a new service may take until it is Ready, on new nodes."""


@cache
def needs(engine: Engine, model: str | None = None) -> Needs:
    """Limits and resource requests of a worker with that engine, and that model in place of the engine's own."""
    (fragment,) = manifests.load(f"engine-{engine}", {"worker_image": ""})
    if model is not None:
        fragment = manifests.merge(fragment, manifests.load(f"model-{model}", {})[0])
    (group,) = fragment["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    spec = group["template"]["spec"]
    (container,) = spec["containers"]
    environment = {item["name"]: item.get("value", "") for item in container["env"]}
    slots, tokens = int(environment["LEEWARD_SLOTS"]), int(environment["LEEWARD_MAX_TOKENS"])
    asked = container["resources"]["requests"]
    volumes = sum(_gib(volume["emptyDir"]["sizeLimit"]) for volume in spec.get("volumes", ()))
    ready = float(fragment["metadata"]["annotations"][READY_WITHIN])
    return Needs(slots, tokens, float(asked["cpu"]), _gib(asked["memory"]), volumes, ready)


def ready_within_s(service: Service, engine: Engine | None = None) -> float:
    """Seconds within which the service must be Ready: its own, or its engine's; of an unknown engine the longest."""
    named = engine or service.engine
    return service.ready_within_s or max(needs(each).ready_within_s for each in ([named] if named else ENGINES))


def _gib(quantity: str) -> int:
    return int(quantity.removesuffix("Gi"))


def ongoing_requests(scaling: Scaling, engine: Engine, model: str | None = None) -> float:
    """Number of requests for which a replica is sized."""
    return SIZED_FOR * needs(engine, model).slots if scaling.ongoing_requests is None else scaling.ongoing_requests


def describe_misfit(nodes: Inf2Nodes, engine: Engine) -> str:
    """Why a worker with that engine does not fit on one of the node types; empty: it fits on all."""
    wanted = needs(engine)
    for kind in (nodes.instance_type, *nodes.fallback_types):
        cpus, memory = SIZES[kind]
        if cpus < wanted.cpus or memory < wanted.memory_gib:
            return (
                f"{kind} has {cpus} vCPUs and {memory} GiB, and a worker with the engine {engine} asks for {wanted.cpus:g} and "
                f"{wanted.memory_gib}: name larger types in inf2_nodes.instance_type and fallback_types"
            )
    disk = IMAGE_GIB + wanted.disk_gib
    if nodes.disk_gib < disk:
        return f"inf2_nodes.disk_gib is {nodes.disk_gib}, and image and model of the engine {engine} may take {disk}"
    return ""
