"""The time line of a drill: the changes between successive snapshots, and what Kubernetes and the tasks reported, in order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from drills.definition import Drill
from drills.faults import Surge
from drills.observed import Event, Observation, Snapshot


def build_timeline(observation: Observation, drill: Drill, recovered: float | None = None) -> tuple[Event, ...]:
    """Return all events in order of time: the fault, the changes between snapshots, the reported events, and the recovery."""
    events = list(observation.events)
    if observation.fault_at is not None and not any(e.kind == "fault" for e in events):
        events += _faults(observation, drill)
    events += [event for earlier, now in pairwise(_filled(observation.snapshots)) for event in changes(earlier, now)]
    if drill.surge and observation.before and observation.strikes:
        events = list(_of_surge(events, drill.surge, observation, observation.before))
    if recovered is not None:
        events.append(Event(t=recovered, what="recovered", kind="milestone", detail="the steady state holds again, redundancy included"))
    return tuple(sorted(events, key=lambda event: event.t))


def changes(earlier: Snapshot, now: Snapshot) -> list[Event]:
    """Return what changed between two successive snapshots, dated to the later one."""
    return [*_head(earlier, now), *_workers(earlier, now), *_serve(earlier, now), *_service(earlier, now)]


def _faults(observation: Observation, drill: Drill) -> Iterator[Event]:
    """Yield the faults, and the end of those that last. The only fault of a drill has its title."""
    for fault, strike in zip(drill.faults, observation.strikes, strict=False):
        what = drill.title.lower() if len(drill.faults) == 1 else fault.describe()
        yield Event(t=strike.at, what=what, kind="fault", subject=str(strike.target), detail=fault.describe())
        surge = isinstance(fault, Surge)
        if strike.ended is not None and (strike.undone_at is not None or not surge):
            yield Event(
                t=strike.ended,
                what="surge over" if surge else "fault over",
                kind="milestone" if surge else "note",
                subject=str(strike.target),
            )


def _of_surge(events: Sequence[Event], surge: Surge, observation: Observation, before: Snapshot) -> Iterator[Event]:
    """Yield the events of a surge: no trouble is what happens to workers that came in it, or that leave after it; and when it had grown."""
    seen = {worker.pod for snapshot in observation.snapshots for worker in snapshot.workers}
    came = seen - {worker.pod for worker in before.workers}
    gone = seen - {worker.pod for worker in observation.snapshots[-1].workers} if observation.snapshots else set()
    over = observation.strikes[0].ended or math.inf
    for event in events:
        expected = event.subject in came or (event.subject in gone and event.t > over)
        yield event.model_copy(update={"kind": "note"}) if expected and event.kind == "trouble" else event
    grown = surge.grown_at(before, observation.snapshots, observation.strikes[0])
    if grown is not None:
        yield Event(t=grown, what="more workers answer", kind="milestone")


def _filled(snapshots: tuple[Snapshot, ...]) -> Iterator[Snapshot]:
    """Yield the snapshots, with the last known value of what could not be asked: otherwise a change during the outage would be lost.

    A controller that has just come back lists no replica at all for a moment: that counts as not asked.
    """
    known: Snapshot | None = None
    for snapshot in snapshots:
        asked = snapshot if snapshot.replicas else snapshot.model_copy(update={"replicas": None})
        known = asked if known is None else asked.filled_from(known)
        yield known


def _head(earlier: Snapshot, now: Snapshot) -> Iterator[Event]:
    old, new = earlier.head, now.head
    same = old if old and new and old.uid == new.uid else None  # as it was before, if it is still the same pod
    if old and not same:
        yield Event(t=now.t, what="old head gone", kind="milestone", subject=old.pod)
    if new and new.running and not (same and same.running):
        yield Event(t=now.t, what="head running" if same else "new head running", kind="milestone", subject=new.pod)
    if new and new.ready and not (same and same.ready):
        yield Event(t=now.t, what="head ready", kind="milestone", subject=new.pod)
    if new and same and new.restarts > same.restarts:
        yield Event(t=now.t, what="head container restarted", kind="trouble", subject=new.pod)


def _workers(earlier: Snapshot, now: Snapshot) -> Iterator[Event]:
    before = {w.uid: w for w in earlier.workers}
    after = {w.uid: w for w in now.workers}
    for uid, was in before.items():
        if (worker := after.get(uid)) is None:
            yield Event(t=now.t, what="worker gone", kind="trouble", subject=was.pod)
            continue
        if worker.restarts > was.restarts:
            yield Event(t=now.t, what="worker restarted", kind="trouble", subject=worker.pod)
        if was.ready and not worker.ready:
            yield Event(t=now.t, what="worker not ready", kind="trouble", subject=worker.pod)
        if worker.ready and not was.ready:
            yield Event(t=now.t, what="worker ready", kind="milestone", subject=worker.pod)
        yield from _replicas(earlier, now, worker.pod)
    for uid in after.keys() - before.keys():
        yield Event(t=now.t, what="new worker", subject=after[uid].pod)


def _replicas(earlier: Snapshot, now: Snapshot, pod: str) -> Iterator[Event]:
    if not earlier.replicas or not now.replicas:
        return
    old, new = _actors(earlier, pod), _actors(now, pod)
    lost = [name for name in old if not old[name] & new.get(name, set())]
    started = [name for name in new if not new[name] & old.get(name, set())]
    if lost:
        detail = f"Ray no longer lists the replica of {' and '.join(lost)} that ran there"
        yield Event(t=now.t, what="replica lost", kind="trouble", subject=pod, detail=detail)
    if started:
        yield Event(t=now.t, what="new replica", subject=pod, detail=f"{' and '.join(started)} was loaded again")


def _actors(snapshot: Snapshot, pod: str) -> dict[str, set[str]]:
    """Return the actors of the replicas on a pod, by deployment and in any state: a controller that comes back lists the same ones as
    RECOVERING."""
    found: dict[str, set[str]] = {}
    for replica in snapshot.replicas or ():
        if replica.pod == pod:
            found.setdefault(replica.deployment, set()).add(replica.actor_id)
    return found


def _serve(earlier: Snapshot, now: Snapshot) -> Iterator[Event]:
    """Yield what happened to the Serve controller and to the proxies; a proxy is known by its pod."""
    old, new = earlier.controller, now.controller
    if old and new and old.worker_id and new.worker_id and old.worker_id != new.worker_id:
        yield Event(t=now.t, what="Serve controller restarted", subject=new.pod or "")
    proxies = {proxy.pod: proxy.actor_id for proxy in earlier.proxies or () if proxy.pod}
    for proxy in now.proxies or ():
        if proxy.actor_id != proxies.get(proxy.pod or "", proxy.actor_id):
            yield Event(t=now.t, what="new proxy", subject=proxy.pod or "")


def _service(earlier: Snapshot, now: Snapshot) -> Iterator[Event]:
    if earlier.ready != now.ready:
        yield Event(t=now.t, what="RayService ready" if now.ready else "RayService not ready")
    if earlier.app_status and now.app_status and earlier.app_status != now.app_status:
        yield Event(t=now.t, what=f"Serve application {now.app_status}")
    lost, added = set(earlier.endpoints) - set(now.endpoints), set(now.endpoints) - set(earlier.endpoints)
    for pod in sorted(lost):
        yield Event(t=now.t, what="endpoint lost", kind="trouble", subject=pod, detail=f"{len(now.endpoints)} left behind the service")
    for pod in sorted(added):
        yield Event(t=now.t, what="endpoint ready", subject=pod, detail=f"{len(now.endpoints)} behind the service")
    if earlier.answer and now.answer and earlier.answer.ok and not now.answer.ok:
        yield Event(t=now.t, what="the observer's own request failed", detail=now.answer.detail)
