"""Whether the service is in its steady state, and why not.

Every function returns the reasons why it does *not* hold, as clauses; an empty list means that it holds. What could not be asked counts
as not holding: a service is steady when that was observed, not when nothing was observed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from drills.definition import Drill, Load, SteadyState
from drills.faults import unproven
from drills.observed import ReplicaSeen, Snapshot
from drills.records import Record
from drills.strikes import Strike

LATE_S = 1.0
"""A request sent later than this after it was due does not count as sent on time. One second: the scheduling noise of
a busy machine stays below it, and a longer hole in the load could hide an outage."""

DEFAULT = SteadyState()
HEALTHY = ("HEALTHY",)
SCALES = ("HEALTHY", "UPSCALING", "DOWNSCALING")
"""States of deployments that answer."""


def not_steady(snapshot: Snapshot, steady: SteadyState = DEFAULT) -> list[str]:
    """Return why the service is not in its steady state at this moment."""
    checks: tuple[Callable[[Snapshot, SteadyState], Iterable[str]], ...] = (_kubernetes, _ray, _redundancy, _rest, _answer, _storage)
    return [reason for check in checks for reason in check(snapshot, steady)]


def traffic_not_steady(records: Iterable[Record], load: Load) -> list[str]:
    """Return why the requests that have ended so far do not show a steady state. It is for the time before the fault: with a reason the
    drill is aborted."""
    seen = list(records)
    failed = [r for r in seen if not r.ok]
    late = sum(r.sent - r.due > LATE_S for r in seen)
    reasons = []
    if not any(r.ok and r.kind == "short" for r in seen):
        reasons.append("no short request has been answered yet")
    if load.streams and not any(r.ok and r.kind == "stream" for r in seen):
        reasons.append("no stream has finished yet")
    if failed:
        first = failed[0]
        reasons.append(
            f"{len(failed)} of {len(seen)} requests failed before the fault (first: {first.kind} {first.outcome} {first.detail})".rstrip()
        )
    if late > 0.05 * len(seen):
        reasons.append(f"{late} of {len(seen)} requests were sent more than {LATE_S:.0f} s late: the load generator has too little CPU")
    return reasons


def not_recovered(before: Snapshot, now: Snapshot, drill: Drill, strikes: Sequence[Strike]) -> list[str]:
    """Return why the service has not recovered from the faults yet: by the faults themselves, its steady state, and what there was
    before."""
    reasons = [*unproven(drill.faults, strikes, before, now), *not_steady(now, drill.steady_state)]
    return reasons + [r for r in not_redundant(before, now) if r not in reasons]


def not_redundant(before: Snapshot, now: Snapshot) -> list[str]:
    """Return what there is less of than before the fault: endpoints, workers, their proxies, and for each deployment replicas and the
    nodes that they are spread over."""
    pairs = {
        "endpoints ready": (len(before.endpoints), len(now.endpoints)),
        "workers ready": (sum(w.ready for w in before.workers), sum(w.ready for w in now.workers)),
    }
    if before.proxies is not None and now.proxies is not None:
        pairs["proxies of workers healthy"] = (_healthy_proxies(before), _healthy_proxies(now))
    later = now.running()
    for name, those in before.running().items():
        pairs[f"replicas of {name} running"] = (len(those), len(later.get(name, ())))
        pairs[f"nodes with a replica of {name}"] = (len(_nodes(those)), len(_nodes(later.get(name, ()))))
    return [f"{now_n} {what}, {before_n} before the fault" for what, (before_n, now_n) in pairs.items() if now_n < before_n]


def recovered_at(before: Snapshot, later: Sequence[Snapshot], drill: Drill, strikes: Sequence[Strike]) -> float | None:
    """Return when the service had recovered to stay: the start of the steady stretch that lasts to the last snapshot.

    None while there is no such stretch of at least `hold_s`.
    """
    start, last = steady_stretch(before, later, drill, strikes)
    return start if start is not None and last - start >= drill.steady_state.hold_s else None


def steady_stretch(before: Snapshot, later: Sequence[Snapshot], drill: Drill, strikes: Sequence[Strike]) -> tuple[float | None, float]:
    """Return from when to when the service was as before, in the stretch that lasts to the last snapshot; None when there is no such
    stretch.

    A moment at which Ray could not be asked neither begins a stretch nor ends one.
    """
    start: float | None = None
    last = 0.0
    known = before
    for snapshot in later:
        holds = not not_recovered(before, snapshot.filled_from(known), drill, strikes)
        if not holds:
            start = None
        elif not snapshot.blind and (snapshot.answer is not None or not drill.steady_state.answered):
            start = snapshot.t if start is None else start
            last = snapshot.t
        known = snapshot.filled_from(known)
    return start, last


def _kubernetes(snapshot: Snapshot, steady: SteadyState) -> Iterator[str]:
    if not snapshot.ready:
        yield "the RayService is not Ready"
    if snapshot.head is None:
        yield "there is no head pod"
    elif not snapshot.head.ready:
        yield f"head pod {snapshot.head.pod} is not ready"
    if steady.strict:
        yield from (f"worker {w.pod} is not ready" for w in snapshot.workers if not w.ready)
        if not snapshot.workers:
            yield "there is no worker"


def _ray(snapshot: Snapshot, steady: SteadyState) -> Iterator[str]:
    if snapshot.blind:
        yield "Ray could not be asked for its application and replicas"
        return
    if snapshot.app_status != "RUNNING":
        yield f"the Serve application is {snapshot.app_status}"
    fine = HEALTHY if steady.strict else SCALES
    yield from (f"deployment {d.name} is {d.status}" for d in snapshot.deployments or () if d.status not in fine)


def _redundancy(snapshot: Snapshot, steady: SteadyState) -> list[str]:
    found = {"endpoints ready": (len(snapshot.endpoints), steady.min_endpoints)}
    for name, those in snapshot.running().items():
        found[f"replicas of {name} running"] = (len(those), steady.min_replicas)
        found[f"nodes with a replica of {name}"] = (len(_nodes(those)), steady.min_nodes)
    if snapshot.replicas is not None and len(found) == 1:
        found["replicas running"] = (0, steady.min_replicas)
    return [f"{n} {what}, at least {least} are needed" for what, (n, least) in found.items() if n < least]


def _rest(snapshot: Snapshot, steady: SteadyState) -> list[str]:
    """Return the workers and nodes that are too many."""
    found = {"workers": (len(snapshot.workers), steady.most_workers)}
    if steady.most_nodes is not None:
        if snapshot.nodes is None:
            return ["the nodes were not observed"]
        found["nodes"] = (snapshot.launched, steady.most_nodes)
    return [f"{n} {what} instead of {most}" for what, (n, most) in found.items() if most is not None and n > most]


def _answer(snapshot: Snapshot, steady: SteadyState) -> Iterator[str]:
    if steady.answered and snapshot.answer is None:
        yield "no request was tried"
    elif steady.answered and snapshot.answer and not snapshot.answer.ok:
        yield f"a request was not answered: {snapshot.answer.detail or 'no detail'}"


def _storage(snapshot: Snapshot, steady: SteadyState) -> Iterator[str]:
    if steady.require_gcs_storage and snapshot.gcs_storage is not True:
        yield "GCS does not keep its state in Redis (GCS fault tolerance is off)"


def _healthy_proxies(snapshot: Snapshot) -> int:
    """Return the number of healthy proxies on worker pods. The head's has no part in the data path."""
    workers = {worker.pod for worker in snapshot.workers}
    return sum(proxy.status == "HEALTHY" and proxy.pod in workers for proxy in snapshot.proxies or ())


def _nodes(replicas: Iterable[ReplicaSeen]) -> set[str]:
    return {r.node for r in replicas if r.node}
