"""Synthetic surges, for the tests of their verdict and picture: samples and records of one run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from drills.definition import Load
from drills.observed import HeadSeen, LoadSeen, WorkerSeen
from drills.records import Outcome, Record
from drills.strikes import Strike, Target
from drills.surge.judgement import LoadResult, Plan, Seen
from drills.surge.sample import Sample

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
    """When that worker is removed; None: it stays."""
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

PLAN = Plan(
    workers=2,
    max_workers=4,
    ongoing_requests=8,
    nodes_follow=True,
    load=Load(short_per_s=2, streams=8),
    factor=2,
    steady_s=20,
    surge_s=60,
    grow_within_s=600,
    shrink_within_s=900,
)


def sample(world: World, t: float) -> Sample:
    """Return the sample `t` seconds after the surge began."""
    there = world.pod_s is not None and world.pod_s <= t and (world.leaves_s is None or t < world.leaves_s)
    ready = there and t >= world.grown_s
    node = world.pod_s is not None and t >= world.node_s and (world.leaves_s is None or t < world.node_gone_s)
    workers = [WorkerSeen(pod=f"w{n}", uid=f"uid-w{n}", node=f"n{n}", ready=True) for n in (1, 2)]
    if there:
        workers.append(WorkerSeen(pod="w3", uid="uid-w3", node="n3" if node else None, ready=ready))
    names = ("n1", "n2", *(["n3"] if node else []))
    claimed = ("c1", "c2", *(["c3"] if node or there else []))
    died = world.head_deleted_s is not None and t >= world.head_deleted_s
    away = died and t < (world.head_deleted_s or 0) + world.head_back_s
    return Sample(
        t=T0 + t,
        engines=None if away else 2 + ready,
        head=None if away else HeadSeen(pod="head", uid="new" if died else "old", node="core-1", running=True, ready=True),
        workers=tuple(workers),
        endpoints=tuple(w.pod for w in workers if w.ready),
        nodes=names,
        claims=claimed,
    )


def samples(world: World) -> tuple[Sample, ...]:
    """Return one sample per second, from before the surge to its end."""
    return tuple(sample(world, t + 0.5) for t in range(-int(world.before_s), int(world.end_s)))


def records(world: World) -> list[Record]:
    """Return the records of both loads, on the observer's clock: a request and a stream per second, twice as many in the surge."""
    dues = [float(t) for t in range(-int(world.before_s), int(world.end_s))]
    dues += [t + 0.25 for t in dues if 0 <= t < world.surge_end_s]
    ends = dict(world.lost)
    found = []
    for n, due in enumerate(sorted(dues)):
        found += [_record(2 * n, "short", due, 0.4, ends.get(due, "finished")), _record(2 * n + 1, "stream", due, 5.0, "finished")]
    return found


def seen(world: World) -> Seen:
    """Return the whole observation."""
    all_, surging = records(world), [r for r in records(world) if r.due % 1]
    return Seen(
        started=T0 - world.before_s - 10,
        surge_at=T0,
        head_deleted_at=None if world.head_deleted_s is None else T0 + world.head_deleted_s,
        strikes=()
        if world.head_deleted_s is None
        else (Strike(target=Target(name="head", uid="old"), at=T0 + world.head_deleted_s, done=True),),
        head_uid="old",
        ended_at=T0 + world.surge_end_s,
        stopped_at=T0 + world.end_s,
        before=sample(world, -0.5),
        samples=samples(world),
        loads=(
            told("load-1", T0 - world.before_s, T0 + world.end_s, len(all_) - len(surging)),
            told("load-1-2", T0, T0 + world.surge_end_s, len(surging)),
        ),
        answered={"w3": 123},
    )


def told(name: str, started: float, stopped: float, sent: int) -> LoadResult:
    """Return the result of a load with a clock that is three seconds fast."""
    return LoadResult(
        name=name, seen=LoadSeen(started=started + 3, stopped=stopped + 3, sent=sent, node="core-2"), clock_offset_s=3.0, records=sent
    )


def _record(number: int, kind: str, due: float, took: float, outcome: Outcome) -> Record:
    at = T0 + due
    one = Record(number, "short", at, at, at + took, (at + took,), 1, at + took, outcome, 200)
    return one if kind == "short" else replace(one, kind="stream")
