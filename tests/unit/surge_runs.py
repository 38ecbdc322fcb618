"""Synthetic surges, for the tests of their verdict and picture: observation and records of one run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from drills.definition import Drill, Load
from drills.faults import Surge
from drills.observed import Answer, DeploymentSeen, HeadSeen, LoadSeen, Observation, ReplicaSeen, Snapshot, WorkerSeen
from drills.records import Outcome, Record
from drills.strikes import Strike, Target
from drills.surge import surge_drill

T0 = 1_790_000_000.0
"""When the surge begins."""


@dataclass(frozen=True)
class World:
    """What happens; all times in seconds since the surge began."""

    before_s: float = 20.0
    pod_s: float | None = 15.0
    """When another worker pod is there; None: never."""
    node_s: float = 40.0
    grown_s: float = 60.0
    surge_end_s: float = 120.0
    leaves_s: float | None = 250.0
    """When a worker is removed; None: all stay."""
    leaver: str = "w3"
    """The worker that is removed: the one that came, or one of those that were there."""
    node_gone_s: float = 330.0
    end_s: float = 345.0
    head_deleted_s: float | None = None
    head_back_s: float = 10.0
    """Seconds from the deletion until the new head is there."""
    lost: tuple[tuple[float, Outcome], ...] = ()
    """Requests that are lost: when they are due, and how they end."""


GROWS = World()
HEAD_DIES = World(head_deleted_s=16.0)
NEVER_GROWS = World(pod_s=None)
STAYS = World(leaves_s=None)


def plan(fault: str = "none", *, nodes_follow: bool = True, shrink_within_s: float = 900, **changes: float) -> Drill:
    """Return the drill, with other values of its surge."""
    surge = Surge.model_validate({"factor": 2, "hold_s": 60, "grow_within_s": 600, "carried": 16, **changes})
    load = Load(short_per_s=1, streams=5)
    return surge_drill(surge, load, workers=2, nodes=2, nodes_follow=nodes_follow, shrink_within_s=shrink_within_s, fault=fault)


def snapshot(world: World, t: float) -> Snapshot:
    """Return the service `t` seconds after the surge began."""
    came = world.pod_s is not None and world.pod_s <= t
    gone = world.leaves_s is not None and t >= world.leaves_s
    there, ready = came and not gone, t >= world.grown_s
    node = world.pod_s is not None and t >= world.node_s and (world.leaves_s is None or t < world.node_gone_s)
    workers = [WorkerSeen(pod=f"w{n}", uid=f"uid-w{n}", node=f"n{n}", ready=True) for n in (1, 2)]
    if came:
        workers.append(WorkerSeen(pod="w3", uid="uid-w3", node="n3" if node else None, ready=ready))
    if gone:
        workers = [worker for worker in workers if worker.pod != world.leaver]
    died = world.head_deleted_s is not None and t >= world.head_deleted_s
    away = died and t < (world.head_deleted_s or 0) + world.head_back_s
    running = tuple(
        ReplicaSeen(actor_id=f"{name}-{w.pod}", deployment=name, pod=w.pod, node=w.node)
        for name in ("api", "engine")
        for w in workers
        if w.ready
    )
    return Snapshot(
        t=T0 + t,
        conditions={"Ready": True},
        app_status=None if away else "RUNNING",
        deployments=None if away else tuple(DeploymentSeen(name=name, status="HEALTHY") for name in ("api", "engine")),
        replicas=None if away else running,
        head=None if away else HeadSeen(pod="head", uid="new" if died else "old", node="core-1", running=True, ready=True),
        workers=tuple(workers),
        endpoints=tuple(w.pod for w in workers if w.ready),
        gcs_storage=True,
        answer=Answer(ok=True),
        nodes=("n1", "n2", *(["n3"] if node else [])),
        claims=("c1", "c2", *(["c3"] if node or there else [])),
    )


def records(world: World) -> list[Record]:
    """Return the records: a request and a stream per second, twice as many in the surge."""
    dues = [float(t) for t in range(-int(world.before_s), int(world.end_s))]
    dues += [t + 0.25 for t in dues if 0 <= t < world.surge_end_s]
    ends = dict(world.lost)
    found = []
    for n, due in enumerate(sorted(dues)):
        found += [_record(2 * n, "short", due, 0.4, ends.get(due, "finished")), _record(2 * n + 1, "stream", due, 5.0, "finished")]
    return found


def observation(world: World) -> Observation:
    """Return the whole observation, one snapshot per second."""
    load = Target(kind="load", name="load-1", uid="load-1")
    over, answered = T0 + world.surge_end_s, {"w3": 123} if world.pod_s is not None else {}
    strikes = [Strike(act="surge", target=load, at=T0, done=True, ended=over, told="multiplied", undone_at=over, answered=answered)]
    if world.head_deleted_s is not None:
        strikes.append(Strike(target=Target(name="head", uid="old"), at=T0 + world.head_deleted_s, done=True))
    return Observation(
        started=T0 - world.before_s - 10,
        ended=T0 + world.end_s,
        fault_at=T0,
        strikes=tuple(strikes),
        snapshots=tuple(snapshot(world, t + 0.5) for t in range(-int(world.before_s), int(world.end_s))),
        load=LoadSeen(started=T0 - world.before_s, stopped=T0 + world.end_s, sent=len(records(world))),
    )


def _record(number: int, kind: str, due: float, took: float, outcome: Outcome) -> Record:
    at = T0 + due
    one = Record(number, "short", at, at, at + took, (at + took,), 1, at + took, outcome, 200)
    return one if kind == "short" else replace(one, kind="stream")
