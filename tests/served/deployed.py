"""The application on a Ray cluster of two nodes on this machine, and what a test asks of its processes."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, serve

# What is asked of a replica goes to it whole: it does not know this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

NAME = "mistral"
KEY = "a-key-that-stands-in-no-log-4711"
WITHIN_S = 90.0
"""For what takes seconds on a quiet machine."""
SLOTS, QUEUE = 4, 8
SLOW = {"LEEWARD_SLOTS": str(SLOTS), "LEEWARD_MAX_QUEUE": str(QUEUE), "LEEWARD_STEPS_PER_S": "8", "LEEWARD_DEADLINE_S": "600"}
"""An engine that is soon full, and so slow that its streams are met alive."""
LONG = 1000
"""Tokens of an answer for which a slow engine needs longer than any wait here: 125 s."""


def deploy(environment: Mapping[str, str] = {}, *, replicas: int = 1, grace_s: float = 60) -> None:
    """The application runs with so many engines and as many APIs, one of each on a node, all with this in their environment.

    What was there before has ended gracefully. As in manifests/rayservice.yaml an engine takes a node's cores, so a new
    one starts when the old one is gone.
    """
    from serving.app import Api, Engine

    both = {"num_replicas": replicas, "max_replicas_per_node": 1, "graceful_shutdown_timeout_s": grace_s, "health_check_period_s": 1}
    actor = {"num_cpus": 0.1, "runtime_env": {"env_vars": dict(environment)}}
    engine = Engine.options(**both, ray_actor_options={**actor, "resources": {"neuron_cores": 2}})
    serve.run(Api.options(**both, ray_actor_options=actor).bind(engine.bind()), name=NAME, route_prefix="/")


@dataclass(frozen=True)
class Replica:
    """One replica, and the process it is."""

    name: str
    pid: int
    node: str

    @property
    def id(self) -> str:
        """What its metrics call it."""
        return self.name.rpartition("#")[2]

    @property
    def most_bytes(self) -> int:
        """Of memory that it ever held."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def kill(self) -> None:
        """It is dead, without a word to anybody."""
        os.kill(self.pid, signal.SIGKILL)


def replicas(deployment: str) -> list[Replica]:
    """Those that answer now, in the order of their names."""
    found = []
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith(f"SERVE_REPLICA::{NAME}#{deployment}#"):
            try:
                handle = ray.get_actor(actor["name"], namespace=actor["namespace"])
                found.append(Replica(actor["name"], *ray.get(handle.__ray_call__.remote(_who), timeout=WITHIN_S)))
            except (ValueError, ray.exceptions.RayActorError):
                continue  # it went meanwhile
    return sorted(found, key=lambda replica: replica.name)


def _who(replica: Any) -> tuple[int, str]:
    return os.getpid(), ray.get_runtime_context().get_node_id()


def found_without_the_gcs(replica: Replica) -> str:
    """Name of the class that the replica takes for that of a new head's proxy, while it cannot ask the GCS."""
    handle = ray.get_actor(replica.name, namespace="serve")
    return str(ray.get(handle.__ray_call__.remote(_proxy_class), timeout=WITHIN_S))


def _proxy_class(_: Any) -> str:
    from unittest.mock import patch

    from ray._private.worker import global_worker
    from ray._raylet import PythonFunctionDescriptor

    # The last part is another one for every process that exports the class, so no cache has it.
    descriptor = PythonFunctionDescriptor("ray.serve._private.proxy", "__init__", "ProxyActor", os.urandom(16).hex())
    manager = global_worker.function_actor_manager
    with patch.object(manager, "_load_actor_class_from_gcs", side_effect=AssertionError("the GCS was asked")):
        return str(manager.load_actor_class(global_worker.current_job_id, descriptor).__name__)


def here() -> str:
    """The node that has the way in."""
    return str(ray.get_runtime_context().get_node_id())


def near(deployment: str = "engine") -> Replica:
    """The one on the node that has the way in."""
    return next(replica for replica in replicas(deployment) if replica.node == here())


def metric(name: str) -> dict[str, float]:
    """What the nodes export of a metric, by the replicas that told it: the sum over all other labels."""
    found: dict[str, float] = defaultdict(float)
    for node in ray.nodes():
        if node["Alive"]:
            for line in _exported(node).splitlines():
                if line.partition("{")[0] == f"ray_{name}" and (replica := REPLICA.search(line)):
                    found[replica[1]] += float(line.rsplit(" ", 1)[1])
    return found


REPLICA = re.compile(r'[{,]replica="([^"]*)"')


def _exported(node: Mapping[str, Any]) -> str:
    with urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def until(what: str, holds: Callable[[], bool], seen: Callable[[], object] = str) -> None:
    """It holds now; fails when it does not in time, with what was seen at the end."""
    end = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain until {what} {seen()}"
        time.sleep(0.2)
