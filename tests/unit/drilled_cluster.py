"""A cluster for drills, in memory and on its own clock: an hour of drills takes a second.

It answers the requests that the pipeline sends to the API server. Its head ends when it is deleted and is back after a while; its load
sends, and records how every request ended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from heapq import merge
from itertools import chain, count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from kubernetes_server import Server

from blocks.parameters import Service
from drills.definition import Drill, Load, Series, Timing
from drills.evidence import Evidence
from drills.kubernetes import node_labels
from drills.kubernetes.api import Api
from drills.records import Record
from drills.runner import footprint, journal, load_file, load_job, observer, waiting, watch, windows
from drills.runner.acts import delete_pod, multiply_load
from drills.runner.load_job import Placement
from drills.runner.waiting import Pending
from drills.series import SeriesEvidence
from drills.stages import drill as stages
from drills.stages import run, steps
from drills.stages.run import Result, Run, call_plainly
from flows import checks

NAMESPACE = "/api/v1/namespaces/mistral"
LOADS = "/api/v1/namespaces/leeward-load/pods"
JOBS = "/apis/batch/v1/namespaces/leeward-load/jobs"
WORKERS = ("w1", "w2")
MORE = 1_000_000
"""Number of the first request that a doubled load sends besides the others."""
AHEAD_S = 5.0
"""Seconds by which the load's clock is ahead."""


class Clock:
    """A replacement of the module `time` that advances only by sleeping."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def time(self) -> float:
        """Return the current time."""
        self.now += 0.001  # so that no two moments are the same
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        """Advance the clock by that time."""
        self.now += seconds


class Killed(BaseException):
    """The process of the runner was killed."""


@dataclass
class Deletion:
    """A pod that was deleted."""

    uid: str
    forced: bool
    at: float


@dataclass
class FakeLoad:
    """A load of two short requests per second, each of 0.2 s, and a stream of 3 s every second."""

    clock: Clock
    lost: Callable[[float], bool]
    """Returns whether a request that ends at that time, on the cluster's clock, is lost."""
    started: float = 0.0
    stopped: float | None = None
    surged: float | None = None
    """When it was doubled."""
    over: float | None = None
    """When it no longer was."""
    text: bytes = b""

    def __post_init__(self) -> None:
        # In the order in which they end: two short ones and a stream a second, numbered as they are due.
        short = ((self.started + n / 2 + 0.2, 3 * (n // 2) + 2 * (n % 2), "short", self.started + n / 2) for n in count())
        streams = ((self.started + n + 3.0, 3 * n + 1, "stream", self.started + n) for n in count())
        self._coming = merge(short, streams)
        self._next = next(self._coming)

    def multiply(self, factor: int) -> None:
        """Send as much once more from now on, or no longer."""
        assert factor in (1, 2)
        if factor == 2 and self.surged is None:
            since = self.surged = self.clock.now
            short = ((since + n / 2 + 0.2, MORE + 2 * n, "short", since + n / 2) for n in count())
            streams = ((since + n + 3.0, MORE + 2 * n + 1, "stream", since + n) for n in count())
            self._coming = merge(chain([self._next], self._coming), short, streams)
            self._next = next(self._coming)
        elif factor == 1 and self.surged is not None:
            self.over = self.over or self.clock.now

    def read(self) -> bytes:
        """Return all records until now."""
        found = []
        while self._next[0] <= self.clock.now:
            end, number, kind, due = self._next
            until = self.over if number >= MORE and self.over is not None else self.stopped
            if until is None or due < until:
                found.append(self._line(number, kind, due, end))
            self._next = next(self._coming)
        self.text += b"".join(found)
        return self.text

    @property
    def sent(self) -> int:
        """Number of requests that were due."""
        now = self.clock.now if self.stopped is None else self.stopped
        passed = [now - self.started, (self.over or now) - self.surged if self.surged is not None else 0.0]
        return sum(math.ceil(2 * seconds) + math.ceil(seconds) for seconds in passed)

    def _line(self, number: int, kind: Any, due: float, end: float) -> bytes:
        outcome: Any = "cut" if self.lost(end) else "finished"
        moments = tuple(due + AHEAD_S + n * (end - due) / 4 for n in range(1, 5))
        there = (due + AHEAD_S, due + AHEAD_S)
        return Record(number, kind, *there, moments[0], moments, 4, end + AHEAD_S, outcome, 200).to_line().encode()


@dataclass
class Cluster(Server):
    """A RayService with two workers, on its own clock."""

    clock: Clock = field(default_factory=Clock)
    recovers: Callable[[int], float] = lambda number: 12.0
    """Seconds until the head is ready again, after the deletion of that number."""
    lost: Callable[[float], bool] = lambda end: False
    load_dies: Callable[[], bool] = lambda: False
    records_away: Callable[[], bool] = lambda: False
    """Returns whether the API server does not answer now when it is asked for the load's records."""
    grows: bool = False
    """Whether another worker comes on another node while the load is doubled, and goes again after that."""
    shrinks: bool = True

    def __post_init__(self) -> None:
        super().__init__()
        self.deletions: list[Deletion] = []
        self.load: FakeLoad | None = None
        self.surged: float | None = None
        self.over: float | None = None

    def came(self, after_s: float, stays_s: float) -> bool:
        """Whether something is there that comes so long after the load was doubled, and goes so long after that was over."""
        now = self.clock.now
        if not self.grows or self.surged is None or now < self.surged + after_s:
            return False
        return not self.shrinks or self.over is None or now < self.over + stays_s

    @property
    def workers(self) -> dict[str, bool]:
        """The workers, and whether they are ready."""
        return {**dict.fromkeys(WORKERS, True), **({"w3": self.came(25, 30)} if self.came(10, 30) else {})}

    @property
    def answering(self) -> list[str]:
        """The workers that are ready."""
        return [name for name, ready in self.workers.items() if ready]

    @property
    def began(self) -> float:
        """When the last head was deleted; 0 when none was."""
        return self.deletions[-1].at if self.deletions else 0.0

    @property
    def ready(self) -> bool:
        """Whether the head is ready."""
        return not self.deletions or self.clock.now - self.began >= self.recovers(len(self.deletions))

    def handle(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        """Return the status and the answer."""
        parts = urlsplit(url)
        found = self._moving(method, parts.path, parse_qs(parts.query), body)
        return found if found is not None else super().handle(method, url, body)

    def _moving(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any] | None:
        """Return the answer of paths that change with time; None for all others."""
        if path.endswith(":8080/proxy/metrics"):
            return 200, b'ray_leeward_slots{} 8.0\nray_leeward_requests_total{outcome="finished"} 7.0\n'
        if path in (node_labels.NODES, node_labels.CLAIMS):
            names = [*(f"node-{name}" for name in WORKERS), *(["node-w3"] if self.came(15, 50) else [])]
            return 200, {"items": [self._node(name) for name in names]}
        if path.startswith(f"{NAMESPACE}/pods"):
            return self._pods(method, path, body)
        if path == "/apis/ray.io/v1/namespaces/mistral/rayservices/mistral":
            conditions = [{"type": "Ready", "status": str(self.ready)}]
            status = {"conditions": conditions, "activeServiceStatus": {"rayClusterName": "mistral-1"}, "observedGeneration": 1}
            return 200, {"metadata": {"name": "mistral", "generation": 1}, "status": status}
        if "endpointslices" in path:
            endpoints = [{"conditions": {"ready": True}, "addresses": ["x"], "targetRef": {"name": name}} for name in self.answering]
            return 200, {"items": [{"metadata": {"name": "s"}, "endpoints": endpoints}]}
        if "mistral-head-svc:8265" in path:
            return self._ray(path)
        if "mistral-serve-svc:8000" in path:
            return 200, ["a text"]
        if path.endswith("/stats/summary"):
            return 200, {"pods": [{"podRef": {"uid": self.head_uid}, "memory": {"workingSetBytes": (300 + len(self.deletions)) << 20}}]}
        return self._of_load(method, path, query)

    @property
    def head_uid(self) -> str:
        """UID of the head that is there or is being made."""
        return f"head-{len(self.deletions)}"

    def _pods(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        there = [self._pod(name, "worker", ready) for name, ready in self.workers.items()]
        if not self.deletions or self.clock.now - self.began >= 2:
            there.append(self._pod(self.head_uid, "head", self.ready))
        name = path.removeprefix(f"{NAMESPACE}/pods").strip("/")
        if not name:
            return 200, {"items": there}
        found = next((pod for pod in there if pod["metadata"]["name"] == name), None)
        if found is None:
            return 404, {"message": "not found"}
        if method == "DELETE":
            assert body["preconditions"] == {"uid": found["metadata"]["uid"]}
            self.deletions.append(Deletion(name, body.get("gracePeriodSeconds") == 0, self.clock.now))
        return 200, found

    def _node(self, name: str) -> Any:
        labels = {node_labels.POOL: node_labels.INF2, node_labels.NODEPOOL: node_labels.INF2}
        return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}

    def _pod(self, name: str, role: str, ready: bool) -> Any:
        return {
            "metadata": {
                "name": name,
                "namespace": "mistral",
                "uid": name,
                "labels": {"ray.io/cluster": "mistral-1", "ray.io/node-type": role},
                "creationTimestamp": "2026-11-23T12:00:00Z",
            },
            "spec": {
                "nodeName": f"node-{name}",
                "containers": [{"name": "ray", "image": "i", "env": [{"name": "RAY_REDIS_ADDRESS"}] if role == "head" else []}],
            },
            "status": {
                "phase": "Running",
                "podIP": f"10.0.0.{name.removeprefix('w') if role == 'worker' else 9}",
                "conditions": [{"type": "Ready", "status": str(ready)}],
                "containerStatuses": [{"name": "ray", "restartCount": 0, "ready": ready, "state": {"running": {}}}],
            },
        }

    def _ray(self, path: str) -> tuple[int, Any]:
        if not self.ready:
            return 503, {"message": "no endpoints"}
        if path.endswith("/api/v0/actors"):
            return 200, {"result": True, "data": {"result": {"num_filtered": 2 * len(self.deletions), "result": []}}}
        told = {
            name: {
                "status": "HEALTHY",
                "replicas": [
                    {"node_ip": f"10.0.0.{worker.removeprefix('w')}", "state": "RUNNING", "actor_id": f"{name}-{worker}"}
                    for worker in self.answering
                ],
            }
            for name in ("api", "engine")
        }
        return 200, {"applications": {"m": {"status": "RUNNING", "deployments": told}}, "ray_version": "2.60.0"}

    def _of_load(self, method: str, path: str, query: dict[str, list[str]]) -> tuple[int, Any] | None:
        if method == "POST" and path == JOBS:
            self.load = FakeLoad(self.clock, lambda end: self.lost(end), self.clock.now)
            return None
        if method == "DELETE" and path.startswith(JOBS):
            self.load = None
            return None
        if not path.startswith(LOADS):
            return None
        if self.load_dies():
            self.load = None
        if path == LOADS:
            metadata = {"name": "load-0", "creationTimestamp": "2026-11-23T12:00:00Z"}
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            return 200, {"items": [{"metadata": metadata, "status": status}] if self.load else []}
        if self.load is None:
            return 404, {"message": "not found"}
        if path.endswith("/stop"):
            if self.load.stopped is None:
                self.load.stopped = self.clock.now
                self.clock.sleep(4)  # its last requests end
            return 200, {}
        if path.endswith("/multiply"):
            self.load.multiply(int(query["factor"][0]))
            self.surged, self.over = self.load.surged, self.load.over
            return 200, {}
        text = self.load.read()
        if path.endswith("/records"):
            if self.records_away():
                return 503, {"message": "no answer"}
            data = text[int(query["offset"][0]) :][: 1 << 20]
            return 200, data[: data.rfind(b"\n") + 1]
        stopped = self.load.stopped
        told = {"now": self.clock.time() + AHEAD_S, "sent": self.load.sent, "started": self.load.started + AHEAD_S, "node": "core-1"}
        return 200, {**told, "state": "done" if stopped else "running", "stopped": stopped and stopped + AHEAD_S}


def fails_after(cluster: Cluster, fault: int, seconds: float) -> Callable[[float], bool]:
    """Return a function by which one request is lost: the first that ends so many seconds after that fault."""
    lost: list[float] = []

    def fails(end: float) -> bool:
        if lost or len(cluster.deletions) < fault or end < cluster.deletions[fault - 1].at + seconds:
            return False
        lost.append(end)
        return True

    return fails


class Runner(Api):
    """An API client that calls the cluster directly. After `lives` requests its process is killed."""

    def __init__(self, cluster: Cluster, lives: int | None = None) -> None:
        self.cluster, self.lives, self.asked, self.asked_at_stop = cluster, lives, 0, 0
        self._resources = {}

    def raw(self, method: str, path: str, *, query: Any = None, body: Any = None, **_: Any) -> tuple[int, bytes]:
        """Return the status and the body."""
        self.asked += 1
        if self.lives is not None and self.asked > self.lives:
            raise Killed
        if method == "DELETE" and path.startswith(JOBS):
            self.asked_at_stop = self.asked
        status, answer = self.cluster.handle(method, f"{path}?{urlencode(query)}" if query else path, body)
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def exec(self, namespace: str, pod: str, container: str, command: Sequence[str], **_: Any) -> bytes:
        """Return the number of entries in Redis; no other command is allowed."""
        assert list(command) == ["python3", "-m", "serving.gcs_size"]
        return b"%d\n" % (1000 + len(self.cluster.deletions))


class Quiet:
    """A display that shows nothing."""

    def progress(self, key: str) -> Quiet:
        """Return the progress of a stage."""
        return self

    def show(self, percent: float | None, text: str) -> None:
        """Show nothing of it."""

    def show_pending(self, pending: Pending) -> None:
        """Show nothing of it."""

    def say(self, text: str, *, warning: bool = False) -> None:
        """Show nothing of it."""

    def judged(self, found: Evidence | SeriesEvidence, result: Result) -> None:
        """Show nothing of it."""


TIMING = Timing(before_s=10, after_s=15, observe_timeout_s=150, poll_s=2)
TRAFFIC = Load(short_per_s=2, streams=3)


@dataclass
class Bench:
    """A cluster, and the runs that drill it."""

    cluster: Cluster
    folder: Path
    runner: Runner = field(init=False)

    def drill(self, series: Series, lives: int | None = None, drill: Drill | None = None) -> Result:
        """Run the drill in a new process that lives for so many requests."""
        self.runner = Runner(self.cluster, lives)
        return stages.drill(
            Run(
                subject=Service().subject,
                drill=drill or checks.checked_drill("head-pod", Service(), TIMING, TRAFFIC, None),
                owner="12345678-run",
                name="calm-otter",
                folder=self.folder,
                connect=lambda: self.runner,
                prepare=lambda: Placement(image="image"),
                display=Quiet(),
                execute=call_plainly,
                series=series,
                target="t",
            )
        )


class AtOnce(Executor):
    """Does in the caller's thread what is submitted: threads that take turns only take time, and their order would differ each time."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def submit(self, does: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Return what came of it; the end of the runner's process ends no other request."""
        done: Future[Any] = Future()
        try:
            done.set_result(does(*args, **options))
        except BaseException as error:
            done.set_exception(error)
        return done


page, made = cache(Drill.from_yaml), cache(load_file.make)
"""The pages of the catalogue and the load's file, which are the same in all drills: to read and to pack them takes a third of the time."""


@contextmanager
def bench(cluster: Cluster, folder: Path) -> Iterator[Bench]:
    """Let the stages of a drill work on that cluster and on its clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "renewing", lambda *_: nullcontext(lambda: None))
        for module in (stages, steps, run, waiting, watch, delete_pod, multiply_load, load_job, observer, windows):
            patch.setattr(module, "time", cluster.clock)
        patch.setattr(footprint, "EXEC_S", 1.0)
        patch.setattr(observer, "ThreadPoolExecutor", AtOnce)
        patch.setattr(Drill, "from_yaml", page)
        patch.setattr(load_file, "make", made)
        yield Bench(cluster, folder)
