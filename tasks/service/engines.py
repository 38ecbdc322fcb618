"""What an engine's workers need, read from the manifests that are laid over the RayService for them: engine-NAME.yaml, and model-NAME.yaml
for a model in their image or checkpoint.yaml for one that they fetch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, reduce

from blocks.parameters import ENGINES, MODELS, Engine, Inf2Nodes, Inf2Type, Scaling, Service
from drills.kubernetes import manifests
from drills.kubernetes.api import Object

SIZES: Mapping[Inf2Type, tuple[int, int]] = {
    "inf2.xlarge": (4, 16),
    "inf2.8xlarge": (32, 128),
    "inf2.24xlarge": (96, 384),
    "inf2.48xlarge": (192, 768),
}
"""vCPUs and GiB of memory of each instance type."""
CHIPS: Mapping[Inf2Type, int] = {"inf2.xlarge": 1, "inf2.8xlarge": 1, "inf2.24xlarge": 6, "inf2.48xlarge": 12}
"""Chips of each instance type. Every worker claims one."""
FOR_PODS = 0.9
"""Share of a node's disk that the kubelet gives to pods; it evicts them to keep the rest free."""
NOT_FOR_PODS_GIB = 2
"""What the kubelet keeps of that for itself, and the file system takes."""
READY_WITHIN = "leeward.dev/ready-within-s"
"""Annotation of a RayService, set by the engine's manifest."""
OWN_MODEL = "leeward.dev/model"
"""Annotation of a RayService: the model of the hub that the engine computes unless the service names another one."""
COMPILES = "leeward.dev/compiles"
"""Annotation of a RayService: its engine takes long to compile a model."""
S3 = "s3://"
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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that every worker fetches before it starts."""

    model: str
    """OWNER/NAME of the hub, or s3://BUCKET/FOLDER."""
    revision: str
    """Commit, tag or branch in the hub; empty in S3."""

    @property
    def bucket(self) -> str:
        """Its S3 bucket; empty: it is in the hub."""
        return self.model.removeprefix(S3).partition("/")[0] if self.model.startswith(S3) else ""


def checkpoint(engine: Engine, model: str | None = None, revision: str | None = None) -> Checkpoint | None:
    """The model that workers with that engine fetch; None: it is in their image."""
    if model in MODELS:
        return None
    wanted = model or _annotations(engine).get(OWN_MODEL)
    if not wanted:
        return None
    return Checkpoint(wanted, "" if wanted.startswith(S3) else revision or "main")


def compiles(service: Service, engine: Engine) -> bool:
    """Whether the model is compiled ahead, on a cluster that Terraform creates."""
    if service.compile_ahead is not None:
        return service.compile_ahead
    return COMPILES in _annotations(engine)


@cache
def _annotations(engine: Engine) -> Mapping[str, str]:
    (fragment,) = manifests.load(f"engine-{engine}", {"worker_image": ""})
    found: Mapping[str, str] = fragment["metadata"]["annotations"]
    return found


def overlays(engine: Engine, worker_image: str, model: str | None = None, revision: str | None = None) -> list[Object]:
    """What is laid over the RayService for that engine and model, in that order."""
    found = manifests.load(f"engine-{engine}", {"worker_image": worker_image})
    if model in MODELS:
        found += manifests.load(f"model-{model}", {})
    if fetched := checkpoint(engine, model, revision):
        found += manifests.load("checkpoint", {"worker_image": worker_image, "model": fetched.model, "revision": fetched.revision})
    return found


@cache
def needs(engine: Engine, model: str | None = None) -> Needs:
    """Limits and resource requests of a worker with that engine, and that model in place of the engine's own."""
    fragment = reduce(manifests.merge, overlays(engine, "", model))
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


def describe_misfit(nodes: Inf2Nodes, engine: Engine, model: str | None = None, per_node: int = 1) -> str:
    """Why that many workers with that engine and model do not fit on one of the node types; empty: they fit on all."""
    wanted = needs(engine, model)
    workers = "a worker" if per_node == 1 else f"{per_node} workers"
    for kind in (nodes.instance_type, *nodes.fallback_types):
        cpus, memory = SIZES[kind]
        if CHIPS[kind] < per_node:
            return (
                f"{kind} has {CHIPS[kind]} chips, and workers_per_node is {per_node}: name larger types in inf2_nodes.instance_type and "
                "fallback_types"
            )
        if cpus < per_node * wanted.cpus or memory < per_node * wanted.memory_gib:
            return (
                f"{kind} has {cpus} vCPUs and {memory} GiB, and {workers} with the engine {engine} ask for {per_node * wanted.cpus:g} and "
                f"{per_node * wanted.memory_gib}: name larger types in inf2_nodes.instance_type and fallback_types"
            )
    for_pods = per_node * wanted.disk_gib
    disk = max(IMAGE_GIB + for_pods, math.ceil((for_pods + NOT_FOR_PODS_GIB) / FOR_PODS))
    if nodes.disk_gib < disk:
        return f"inf2_nodes.disk_gib is {nodes.disk_gib}, and image and models of {workers} with the engine {engine} may take {disk}"
    return ""
