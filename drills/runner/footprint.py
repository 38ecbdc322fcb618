"""The footprint of a Ray cluster, which could grow from fault to fault: it is read once after each recovery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from blocks.errors import PipelineError
from drills.kubernetes.api import Object
from drills.observed import Footprint
from drills.runner import ray_objects
from drills.runner.observer import Observer

T = TypeVar("T")

EXEC_S = 10.0
DEAD = urlencode({"filter_keys": "state", "filter_predicates": "=", "filter_values": "DEAD", "limit": 1})
"""Query of Ray's state API for the actors that ended and that the GCS still lists; their number is in every answer."""


def read_footprint(observer: Observer) -> Footprint:
    """Read the footprint. A figure that cannot be read is None: no drill ends because of that."""
    head = _value_or_none(lambda: next((pod for pod in observer.cluster_pods("head") if "deletionTimestamp" not in pod["metadata"]), None))
    if head is None:
        return Footprint()
    return Footprint(
        head_memory_bytes=_value_or_none(lambda: _memory(observer, head)),
        redis_entries=_value_or_none(lambda: _redis_entries(observer, head)),
        dead_actors=_value_or_none(lambda: int(observer.ask_head(f"/api/v0/actors?{DEAD}")["data"]["result"]["num_filtered"])),
    )


def _value_or_none(ask: Callable[[], T | None]) -> T | None:
    """Return the value; None when it cannot be read, or the answer has an unknown format."""
    try:
        return ask()
    except (PipelineError, LookupError, TypeError, ValueError):
        return None


def _memory(observer: Observer, head: Object) -> int | None:
    """Return the working set of the head pod in bytes, from the kubelet of its node."""
    stats = observer.api.get(f"/api/v1/nodes/{head['spec']['nodeName']}/proxy/stats/summary")
    pods = [pod for pod in stats["pods"] if pod["podRef"]["uid"] == head["metadata"]["uid"]]
    return int(pods[0]["memory"]["workingSetBytes"]) if pods else None


def _redis_entries(observer: Observer, head: Object) -> int | None:
    """Return the number of fields in the cluster's hashes in Redis; None when the head keeps nothing in Redis. A command in the head
    counts them, because the head can reach Redis and has the password."""
    pod, container = head["metadata"], head["spec"]["containers"][0]
    if not ray_objects.gcs_storage([head], pod["labels"][ray_objects.CLUSTER]):
        return None
    counting = ("python3", "-m", "serving.gcs_size")
    return int(observer.api.exec(pod["namespace"], pod["name"], container["name"], counting, timeout_s=EXEC_S))
