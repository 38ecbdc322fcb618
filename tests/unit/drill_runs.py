"""Synthetic drills that look like measured ones, for the tests of drills/: records and observation of one run."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from drills.definition import Drill, Timing
from drills.observed import Answer, DeploymentSeen, Event, HeadSeen, LoadSeen, Observation, ReplicaSeen, Snapshot, Versions, WorkerSeen
from drills.records import Outcome, Record
from drills.runner.journal import FaultNote
from drills.strikes import Strike, Target

T0 = 1_790_000_000.0
"""The time of the fault, on the observer's clock."""
DEPLOYMENTS = ("api", "engine")
STRIKE = Strike(target=Target(name="mistral-head-old", uid="aaaa1111-old", node="core-1"), at=T0, done=True)
"""The deletion of the head."""
WORKERS = ("mistral-worker-5xk2p", "mistral-worker-q8d7z")


@dataclass(frozen=True)
class World:
    """What happens to the service; all times in seconds since the fault."""

    before_s: float = 20.0
    after_s: float = 60.0
    head_back_s: float = 2.0
    head_ready_s: float = 17.0
    worker_lost: tuple[float, float] | None = None
    """While this lasts, one worker answers nothing; at its end it has restarted."""
    both_lost: tuple[float, float] | None = None
    """While this lasts, nothing answers."""
    gcs_storage: bool = True
    clock_offset_s: float = 0.0
    short_per_s: float = 10.0
    streams: int = 8
    stream_s: float = 5.0
    tokens: int = 50
    seed: int = 7
    drill: Drill = field(default_factory=lambda: Drill.named("head-pod-forced"))


SURVIVES = World()
LOSES = World(
    head_back_s=1.5,
    head_ready_s=17.4,
    worker_lost=(9.2, 40.1),
    both_lost=(20.3, 40.1),
    gcs_storage=False,
    seed=3,
    drill=Drill.named("head-pod-forced", timing=Timing(after_s=15)),
)


def deleted(pod: str, uid: str, at: float, *, done: bool = True, node: str = "") -> FaultNote:
    """Return the note of a pod that was deleted, or is about to be."""
    return FaultNote(strikes=(Strike(target=Target(name=pod, uid=uid, node=node), at=at, done=done),), done=done)


def records(world: World = SURVIVES) -> list[Record]:
    """Return the requests of the run, on the load's clock."""
    dice = random.Random(world.seed)
    end = world.after_s
    found: list[Record] = []
    n = round((world.before_s + end) * world.short_per_s)
    found += [_short(world, dice, i, -world.before_s + i / world.short_per_s) for i in range(n)]
    if world.streams:
        every = world.stream_s / (world.streams + 0.5)
        m = int((world.before_s + end) / every)
        found += [_stream(world, dice, n + i, -world.before_s + i * every) for i in range(m)]
    return [_on_loads_clock(r, world.clock_offset_s) for r in found]


def observation(world: World = SURVIVES) -> Observation:
    """Return the observation of the cluster in that run, with one snapshot per second."""
    seconds = range(-int(world.before_s), int(world.after_s) + 1)
    return Observation(
        started=T0 - world.before_s - 5,
        ended=T0 + world.after_s,
        fault_at=T0,
        strikes=(STRIKE,),
        snapshots=tuple(snapshot(world, t + 0.3) for t in seconds),
        events=(Event(t=T0 + 1.1, what="Killing", subject="mistral-head-old", detail="Stopping container ray-head"),),
        load=LoadSeen(
            started=T0 - world.before_s + world.clock_offset_s,
            stopped=T0 + world.after_s + world.clock_offset_s,
            sent=len(records(world)),
            node="core-1",
        ),
        clock_offset_s=world.clock_offset_s,
        versions=Versions(
            leeward="0.1.0",
            kubernetes="v1.35.4",
            kuberay="v1.6.0",
            ray="2.60.0",
            image="10.213.0.3:5000/mistral@sha256:5f1c",
            more={"model": "tiny Mistral"},
        ),
    )


def snapshot(world: World, t: float) -> Snapshot:
    """Return the snapshot `t` seconds after the fault."""
    down = world.worker_lost and world.worker_lost[0] <= t < world.worker_lost[1]
    restarted = world.worker_lost is not None and t >= world.worker_lost[1] - 5
    all_down = world.both_lost is not None and world.both_lost[0] <= t < world.both_lost[1]
    ready = [not down and not all_down, not all_down]
    workers = tuple(
        WorkerSeen(pod=pod, uid=f"{n}7c1f0aa-worker", restarts=int(restarted and n == 0), node=f"inf2-{n + 1}", ready=ready[n])
        for n, pod in enumerate(WORKERS)
    )
    asked = t <= 0 or t >= world.head_ready_s
    replicas = tuple(
        ReplicaSeen(actor_id=f"{n}{name[0]}{int(restarted and n == 0)}f09e77", deployment=name, pod=pod, node=f"inf2-{n + 1}")
        for name in DEPLOYMENTS
        for n, pod in enumerate(WORKERS)
        if ready[n]
    )
    return Snapshot(
        t=T0 + t,
        conditions={"Ready": t <= 0 or t >= world.head_ready_s},
        app_status="RUNNING" if asked else None,
        deployments=tuple(DeploymentSeen(name=name, status="HEALTHY") for name in DEPLOYMENTS) if asked else None,
        replicas=replicas if asked else None,
        head=_head(world, t),
        workers=workers,
        endpoints=tuple(w.pod for w in workers if w.ready),
        gcs_storage=world.gcs_storage,
        answer=Answer(ok=any(ready), detail="" if any(ready) else "connection refused"),
    )


def _head(world: World, t: float) -> HeadSeen | None:
    if t <= 0:
        return HeadSeen(pod="mistral-head-old", uid="aaaa1111-old", node="core-1", running=True, ready=True)
    if t < world.head_back_s:
        return None
    return HeadSeen(pod="mistral-head-new", uid="bbbb2222-new", node="core-2", running=True, ready=t >= world.head_ready_s)


def _short(world: World, dice: random.Random, number: int, due: float) -> Record:
    slow = 6.0 if 1.5 < due < world.head_ready_s else 1.0
    took = 0.05 * dice.lognormvariate(0, 0.25) * slow ** dice.random()
    lost = _lost(world, dice, due)
    if lost:
        return _record(number, "short", due, (), 4, due + dice.choice((0.003, 0.01, 1.2)), "refused", None, "ConnectionRefusedError")
    times = tuple(due + took * (0.4 + 0.2 * k) for k in range(4))
    return _record(number, "short", due, times, 4, times[-1], "finished", 200)


def _stream(world: World, dice: random.Random, number: int, due: float) -> Record:
    gap = world.stream_s / world.tokens
    times = [due + 0.06 + dice.random() * 0.03 + k * gap for k in range(world.tokens)]
    if world.head_back_s + 2 < due < world.head_ready_s and dice.random() < 0.3:
        times = [t if k < 20 else t + 1.3 for k, t in enumerate(times)]
    if _lost(world, dice, due):
        return _record(number, "stream", due, (), world.tokens, due + 0.01, "refused", 503, "503 no replica")
    for window in (world.worker_lost, world.both_lost):
        if window and due < window[0] < times[-1] and (window is world.both_lost or dice.random() < 0.4):
            got = [t for t in times if t < window[0]]
            outcome: Outcome = "hung" if dice.random() < 0.3 and got else "cut"
            end = window[0] + (10.0 if outcome == "hung" else 0.02)
            return _record(number, "stream", due, tuple(got), world.tokens, max(end, due), outcome, 200, "connection reset")
    return _record(number, "stream", due, tuple(times), world.tokens, times[-1], "finished", 200)


def _lost(world: World, dice: random.Random, due: float) -> bool:
    if world.both_lost and world.both_lost[0] <= due < world.both_lost[1]:
        return True
    return bool(world.worker_lost and world.worker_lost[0] <= due < world.worker_lost[1] and dice.random() < 0.12)


def _record(
    number: int,
    kind: str,
    due: float,
    times: tuple[float, ...],
    expected: int,
    end: float,
    outcome: Outcome,
    status: int | None,
    detail: str = "",
) -> Record:
    return Record(
        id=number,
        kind="short" if kind == "short" else "stream",
        due=T0 + due,
        sent=T0 + due + 0.001,
        first_token=T0 + times[0] if times else None,
        token_times=tuple(T0 + t for t in times),
        expected_tokens=expected,
        end=T0 + max(end, due + 0.001),
        outcome=outcome,
        status=status,
        detail=detail,
    )


def _on_loads_clock(r: Record, offset: float) -> Record:
    first = None if r.first_token is None else r.first_token + offset
    return replace(
        r,
        due=r.due + offset,
        sent=r.sent + offset,
        first_token=first,
        token_times=tuple(t + offset for t in r.token_times),
        end=r.end + offset,
    )
