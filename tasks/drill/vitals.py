"""What could grow from one lost head to the next: asked once after each recovery, from whoever knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from blocks.errors import PipelineError
from drills.observed import Vitals
from tasks.kubernetes.api import Object
from tasks.service import ray_objects
from tasks.service.observer import Observer

T = TypeVar("T")

EXEC_S = 10.0
DEAD = urlencode({"filter_keys": "state", "filter_predicates": "=", "filter_values": "DEAD", "limit": 1})


def seen(observer: Observer) -> Vitals:
    """The vitals now. What nobody tells is None: no drill ends for that."""
    head = _told(lambda: _head(observer))
    if head is None:
        return Vitals()
    return Vitals(
        head_memory_bytes=_told(lambda: _memory(observer, head)),
        redis_entries=_told(lambda: _redis_entries(observer, head)),
        dead_actors=_told(lambda: _dead_actors(observer)),
    )


def _told(ask: Callable[[], T | None]) -> T | None:
    """What is told; None when it is not, or not in the words that are known here."""
    try:
        return ask()
    except (PipelineError, LookupError, TypeError, ValueError):
        return None


def _head(observer: Observer) -> Object | None:
    """The head pod that is not being deleted."""
    heads = ray_objects.pods_of(observer.pods(), ray_objects.active_cluster(observer.ray_service()), "head")
    return next((pod for pod in heads if "deletionTimestamp" not in pod["metadata"]), None)


def _memory(observer: Observer, head: Object) -> int | None:
    """Bytes that the head pod works with, as its node's kubelet counts them."""
    told = observer.api.get(f"/api/v1/nodes/{head['spec']['nodeName']}/proxy/stats/summary")
    pods = [pod for pod in told["pods"] if pod["podRef"]["uid"] == head["metadata"]["uid"]]
    return int(pods[0]["memory"]["workingSetBytes"]) if pods else None


def _redis_entries(observer: Observer, head: Object) -> int | None:
    """Fields of the cluster's hashes in Redis, as counted from within the head, which has the way there and the password; None where the
    head keeps nothing in Redis."""
    pod, container = head["metadata"], head["spec"]["containers"][0]
    if not ray_objects.gcs_storage([head], pod["labels"][ray_objects.CLUSTER]):
        return None
    counting = ("python3", "-m", "serving.gcs_size")
    return int(observer.api.exec(pod["namespace"], pod["name"], container["name"], counting, timeout_s=EXEC_S))


def _dead_actors(observer: Observer) -> int:
    """Actors that ended and are still in the GCS's table, as Ray's state API counts them."""
    return int(observer.ask_head(f"/api/v0/actors?{DEAD}")["data"]["result"]["num_filtered"])
