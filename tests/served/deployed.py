"""The application on a Ray cluster of two nodes on this machine, and access to its processes for tests."""

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

# Functions that run in a replica are pickled completely: the replica cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

NAME = "mistral"
KEY = "a-key-that-stands-in-no-log-4711"
WITHIN_S = 90.0
"""Seconds to wait at most for what takes seconds on a quiet machine."""
SLOTS, QUEUE = 4, 8
SLOW = {"LEEWARD_SLOTS": str(SLOTS), "LEEWARD_MAX_QUEUE": str(QUEUE), "LEEWARD_STEPS_PER_S": "8", "LEEWARD_DEADLINE_S": "600"}
"""Environment of an engine with few slots that is slow, so that its streams are alive when a test acts on them."""
LONG = 1000
"""Tokens of an answer for which a slow engine needs 125 s, longer than any wait here."""


def deploy(environment: Mapping[str, str] = {}, *, replicas: int = 1, grace_s: float = 60) -> None:
    """Deploy this number of engines and of APIs, one of each per node, all with this environment.

    The earlier application ends gracefully first. As in manifests/rayservice.yaml an engine takes a node's cores, so a new
    one starts when the old one has ended.
    """
    from serving.app import Api, Engine

    both = {"num_replicas": replicas, "max_replicas_per_node": 1, "graceful_shutdown_timeout_s": grace_s, "health_check_period_s": 1}
    actor = {"num_cpus": 0.1, "runtime_env": {"env_vars": dict(environment)}}
    engine = Engine.options(**both, ray_actor_options={**actor, "resources": {"neuron_cores": 2}})
    serve.run(Api.options(**both, ray_actor_options=actor).bind(engine.bind()), name=NAME, route_prefix="/")


@dataclass(frozen=True)
class Replica:
    """One replica and its process."""

    name: str
    pid: int
    node: str

    @property
    def id(self) -> str:
        """Name of the replica in its metrics."""
        return self.name.rpartition("#")[2]

    @property
    def most_bytes(self) -> int:
        """Most bytes of memory that the process ever held."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def kill(self) -> None:
        """Kill the process without any notice to others."""
        os.kill(self.pid, signal.SIGKILL)


def replicas(deployment: str) -> list[Replica]:
    """Return the replicas that answer now, sorted by name."""
    found = []
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith(f"SERVE_REPLICA::{NAME}#{deployment}#"):
            try:
                handle = ray.get_actor(actor["name"], namespace=actor["namespace"])
                found.append(Replica(actor["name"], *ray.get(handle.__ray_call__.remote(_who), timeout=WITHIN_S)))
            except (ValueError, ray.exceptions.RayActorError):
                continue  # it ended in between
    return sorted(found, key=lambda replica: replica.name)


def _who(replica: Any) -> tuple[int, str]:
    return os.getpid(), ray.get_runtime_context().get_node_id()


def found_without_the_gcs(replica: Replica) -> str:
    """Return the name of the class that the replica loads for a new head's proxy while it cannot reach the GCS."""
    handle = ray.get_actor(replica.name, namespace="serve")
    return str(ray.get(handle.__ray_call__.remote(_proxy_class), timeout=WITHIN_S))


def _proxy_class(_: Any) -> str:
    from unittest.mock import patch

    from ray._private.worker import global_worker
    from ray._raylet import PythonFunctionDescriptor

    # The last part differs for every process that exports the class, so no cache has it.
    descriptor = PythonFunctionDescriptor("ray.serve._private.proxy", "__init__", "ProxyActor", os.urandom(16).hex())
    manager = global_worker.function_actor_manager
    with patch.object(manager, "_load_actor_class_from_gcs", side_effect=AssertionError("the GCS was asked")):
        return str(manager.load_actor_class(global_worker.current_job_id, descriptor).__name__)


def here() -> str:
    """Return the node with Serve's proxy."""
    return str(ray.get_runtime_context().get_node_id())


def near(deployment: str = "engine") -> Replica:
    """Return the replica on the node with Serve's proxy."""
    return next(replica for replica in replicas(deployment) if replica.node == here())


def metric(name: str) -> dict[str, float]:
    """Return a metric as the nodes export it, by replica: the sum over all other labels."""
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
    """Wait until the condition holds; fail after the time with the last observed value."""
    end = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain until {what} {seen()}"
        time.sleep(0.2)
