"""The verdict on a surge.

    aborted  the service was not at rest before the surge: nothing can be concluded
    void     the measurement itself cannot be trusted, and no loss is recorded: nothing can be concluded
    failed   the service did not grow, did not shrink again, or did not answer every request
    passed   it did all three

The first of these that applies is the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from drills.definition import NO_FAULT, Drill, FaultOfDrill, Load
from drills.faults import unproven
from drills.judge.reasons import sentence
from drills.judge.slos import COUNTS, Slo
from drills.judge.steady_state import LATE_S
from drills.judge.traffic import count, losses, nearest_rank, on_observers_clock
from drills.judge.trust import ON_TIME
from drills.judge.verdict import Verdict
from drills.observed import LoadSeen, WorkerSeen
from drills.records import Record
from drills.strikes import Strike
from drills.surge.sample import Sample, surplus
from drills.value import Seconds, Value

__all__ = ["Judgement", "LoadResult", "NewWorker", "PhaseSeen", "Plan", "Seen", "judge", "merge_records", "size_load"]

PhaseName = Literal["before", "growing", "grown", "after"]
EARLY_S = 5.0
"""Tolerance in seconds for the difference between the load's clock and the observer's, before a load counts as ended too early."""
SHORT_PER_S = 2.0
"""Short requests per second of a base load that is made for the service."""
SHORT_S = 0.4
"""Seconds that a short request of four tokens takes at a 7B model's pace."""
BEYOND = 7 / 6
"""Requests under way in a surge, as a multiple of those that the workers are sized for: clearly more, and less than the 4/3 that the slots
of their engines take, so that no request waits for the minutes that a new worker needs."""


class Plan(Value):
    """What a surge is to do."""

    workers: int
    """Number of workers of the service at rest."""
    max_workers: int
    ongoing_requests: float
    """Requests under way per replica that the service is sized for."""
    nodes_follow: bool
    """Whether each worker has a node of its own that is added and removed with it."""
    load: Load
    """The base load of the surge."""
    factor: int
    """Multiple of the base load in the surge."""
    steady_s: Seconds
    surge_s: Seconds
    grow_within_s: Seconds
    shrink_within_s: Seconds
    fault: FaultOfDrill = NO_FAULT

    @property
    def drill(self) -> Drill | None:
        """The drill whose fault is done while the service grows; None when no fault is done."""
        return None if self.fault == NO_FAULT else Drill.named(self.fault)


class LoadResult(Value):
    """The result of one load."""

    name: str
    seen: LoadSeen | None = None
    """What the load reported, on its own clock; None when it could not be asked at its end."""
    clock_offset_s: Seconds = 0.0
    """The load's clock minus the observer's."""
    records: int = 0
    trouble: str = ""
    """Why its records could not be read to the end; empty when they could."""

    @property
    def stopped(self) -> float | None:
        """The moment after which it sent nothing, on the observer's clock."""
        return None if self.seen is None else self.seen.stopped - self.clock_offset_s


class Seen(Value):
    """Everything that was observed of a surge, without the records. Moments are on the observer's clock; None when not reached."""

    started: Seconds
    """When the observation began."""
    surge_at: Seconds | None = None
    """When the first load of the surge began to send."""
    head_deleted_at: Seconds | None = None
    """When the fault was done; None when it was not."""
    strikes: tuple[Strike, ...] = ()
    """The fault with what was struck."""
    head_uid: str = ""
    """UID of the head pod before the surge."""
    ended_at: Seconds | None = None
    """When the loads of the surge were stopped."""
    stopped_at: Seconds | None = None
    """When the base load was stopped."""
    before: Sample | None = None
    """The service at rest under the base load."""
    samples: tuple[Sample, ...] = ()
    loads: tuple[LoadResult, ...] = ()
    """The results of the loads, the base load first."""
    answered: dict[str, int] = Field(default_factory=dict)
    """Requests that the engines of new workers finished in the surge, by pod; without engines that could not be asked."""
    aborted: str = ""
    """Why there was no surge; empty when there was one."""


class NewWorker(Value):
    """A worker that was added in the surge and answered requests."""

    pod: str
    node: str
    new_node: bool
    """Whether its node was added, too."""
    after_s: Seconds
    """Seconds from the beginning of the surge until requests were sent to it."""
    answered: int | None
    """Requests that its engine counted as finished in the surge; None when it could not be asked."""


class PhaseSeen(Value):
    """One phase as its users experienced it; requests belong to the phase in which they were due."""

    name: PhaseName
    seconds: Seconds
    requests: int
    failed: int
    outcomes: dict[str, int]
    """Number of requests that did not finish, by how they ended."""
    under_way: float
    """Average number of requests under way."""
    p50_ms: float | None
    """Median latency of the short requests that finished, from due to the end."""
    p99_ms: float | None


class Judgement(Value):
    """The verdict and everything that it is based on."""

    verdict: Verdict
    headline: str
    why: tuple[str, ...]
    """Reasons why the verdict is not "passed", most important first."""
    promises: tuple[Slo, ...]
    """All promises with what was measured; empty when there was no surge."""
    grown_at: Seconds | None
    """When more workers answered than before."""
    workers_back_at: Seconds | None
    """When there were as many workers as before, and stayed so to the end."""
    nodes_back_at: Seconds | None
    most_workers: int
    """Largest number of workers that answered at one moment."""
    most_engines: int
    most_nodes: int
    """Largest number of nodes that were Ready at one moment."""
    newcomers: tuple[NewWorker, ...]
    phases: tuple[PhaseSeen, ...]


def size_load(workers: int, ongoing_requests: float, factor: int) -> Load:
    """Return a base load that so many workers carry, and that needs more of them when it is multiplied by `factor`.

    Serve wants as many replicas as there are requests under way, divided by `ongoing_requests`, rounded up. Under way are the streams, half
    a stream more because the load starts them one by one, and each short request for the time that it takes.
    """
    under_way = BEYOND * workers * ongoing_requests / factor
    return Load(short_per_s=SHORT_PER_S, streams=max(1, math.ceil(under_way - 0.5 - SHORT_PER_S * SHORT_S)))


def merge_records(loads: Iterable[tuple[Sequence[Record], float]]) -> list[Record]:
    """Return the records of several loads, each given with its clock offset, as one list: on the observer's clock, in order of due, with
    new ids."""
    those = [record for records, offset in loads for record in on_observers_clock(records, offset)]
    return [replace(record, id=n) for n, record in enumerate(sorted(those, key=lambda r: r.due))]


def judge(plan: Plan, seen: Seen, records: Sequence[Record]) -> Judgement:
    """Judge a surge. The records are as `merge_records` returns them."""
    before = seen.before
    grown_at = _grown_at(seen)
    surging = [s for s in seen.samples if seen.surge_at is not None and s.t >= seen.surge_at]
    workers_back, nodes_back = _back_at(seen)
    newcomers = _new_workers(seen)
    phases = _phases(seen, grown_at, records)
    observed = [*([before] if before else []), *surging]
    most_workers = max((len(s.answering) for s in observed), default=0)
    promises = _promises(plan, seen, records, grown_at, (workers_back, nodes_back), newcomers, most_workers)
    found = Judgement(
        verdict="passed",
        headline="",
        why=(),
        promises=promises,
        grown_at=grown_at,
        workers_back_at=workers_back,
        nodes_back_at=nodes_back,
        most_workers=most_workers,
        most_engines=max((s.engines or 0 for s in observed), default=0),
        most_nodes=max((len(s.nodes) for s in observed), default=0),
        newcomers=newcomers,
        phases=phases,
    )
    verdict, why = _verdict(plan, seen, records, found)
    headline = _headline(verdict, plan, seen, records, found, why)
    return found.model_copy(update={"verdict": verdict, "why": tuple(why), "headline": headline})


def _grown_at(seen: Seen) -> float | None:
    if seen.before is None or seen.surge_at is None:
        return None
    return next((s.t for s in seen.samples if s.t >= seen.surge_at and s.shows_more_than(seen.before)), None)


def _back_at(seen: Seen) -> tuple[float | None, float | None]:
    """Return from when on there were as many workers, and as many nodes, as before until the end; None when there were not."""
    if seen.before is None or seen.ended_at is None:
        return None, None
    back: list[float | None] = [None, None]
    last = [True, True]
    for sample in reversed([s for s in seen.samples if s.t >= seen.ended_at]):
        for n, more in enumerate(surplus(sample, seen.before)):
            last[n] = last[n] and not more
            if last[n]:
                back[n] = sample.t
    return back[0], back[1]


def _new_workers(seen: Seen) -> tuple[NewWorker, ...]:
    if seen.before is None or seen.surge_at is None:
        return ()
    found: dict[str, tuple[WorkerSeen, float]] = {}
    for sample in seen.samples:
        for worker in sample.new_workers(seen.before):
            if sample.t >= seen.surge_at and worker.pod in sample.answering:
                found.setdefault(worker.pod, (worker, sample.t))
    return tuple(
        NewWorker(
            pod=pod,
            node=worker.node or "",
            new_node=worker.node not in seen.before.nodes,
            after_s=round(at - seen.surge_at, 3),
            answered=seen.answered.get(pod),
        )
        for pod, (worker, at) in found.items()
    )


def _phases(seen: Seen, grown_at: float | None, records: Sequence[Record]) -> tuple[PhaseSeen, ...]:
    if not records:
        return ()
    first, last = records[0].due, max(r.due for r in records)
    moments = {"before": first, "growing": seen.surge_at, "grown": grown_at, "after": seen.ended_at}
    begins = [(name, at) for name, at in moments.items() if at is not None]
    ends = [*(at for _, at in begins[1:]), last + 0.001]
    return tuple(_phase(name, since, until, records) for (name, since), until in zip(begins, ends, strict=True) if until > since)


def _phase(name: str, since: float, until: float, records: Sequence[Record]) -> PhaseSeen:
    those = [r for r in records if since <= r.due < until]
    latencies = [r.latency_s * 1000 for r in those if r.kind == "short" and r.ok]
    busy = sum(max(0.0, min(r.end, until) - max(r.sent, since)) for r in records)
    return PhaseSeen.model_validate(
        {
            "name": name,
            "seconds": round(until - since, 3),
            "requests": len(those),
            "failed": sum(not r.ok for r in those),
            "outcomes": {how: n for how, n in count(those).items() if n and how != "finished"},
            "under_way": round(busy / (until - since), 2),
            "p50_ms": nearest_rank(latencies, 50),
            "p99_ms": nearest_rank(latencies, 99),
        }
    )


def _promises(
    plan: Plan,
    seen: Seen,
    records: Sequence[Record],
    grown_at: float | None,
    back: tuple[float | None, float | None],
    newcomers: Sequence[NewWorker],
    most_workers: int,
) -> tuple[Slo, ...]:
    """Return all promises; none when there was no surge."""
    if seen.surge_at is None:
        return ()
    workers_back, nodes_back = back
    found = [_within("grew", "More workers answer", seen.surge_at, grown_at, plan.grow_within_s)]
    if plan.nodes_follow:
        new, wanted = len({n.node for n in newcomers if n.new_node}), max(1, most_workers - plan.workers)
        found.append(_some("new-node", "New nodes with a worker that answers", f"at least {wanted}", f"{new}", new >= wanted))
    if counted := [n.answered for n in newcomers if n.answered is not None]:
        actual = f"{sum(counted):,} requests, as counted by their engines"
        found.append(_some("new-answered", "Answered by new workers", "some by each", actual, min(counted) > 0))
    found.append(_within("workers-back", "As many workers as before", seen.ended_at, workers_back, plan.shrink_within_s))
    if plan.nodes_follow:
        found.append(_within("nodes-back", "As many nodes as before", seen.ended_at, nodes_back, plan.shrink_within_s))
    return (
        *found,
        _none_lost("failed-requests", "Failed requests", records, "short"),
        _none_lost("lost-streams", "Lost streams", records, "stream"),
    )


def _within(id_: str, name: str, since: float | None, at: float | None, limit: float) -> Slo:
    value = at - since if at is not None and since is not None else None
    actual = "not in that time" if value is None else f"after {value:.0f} s"
    passed = value is not None and value <= limit
    return Slo(id=id_, name=name, target=f"within {limit:g} s", actual=actual, passed=passed, limit=limit, value=value)


def _some(id_: str, name: str, target: str, actual: str, passed: bool) -> Slo:
    return Slo(id=id_, name=name, target=target, actual=actual, passed=passed)


def _none_lost(id_: str, name: str, records: Sequence[Record], kind: str) -> Slo:
    those = [r for r in records if r.kind == kind]
    lost = sum(not r.ok for r in those)
    actual = f"{lost:,} of {len(those):,}" + (f" ({losses(those)})" if lost else "")
    return Slo(id=id_, name=name, target="none", actual=actual, passed=not lost, limit=0, value=lost)


def _verdict(plan: Plan, seen: Seen, records: Sequence[Record], found: Judgement) -> tuple[Verdict, list[str]]:
    if seen.aborted or seen.before is None or seen.surge_at is None:
        return "aborted", [sentence(seen.aborted or "there was no surge")]
    if doubts := _doubts(plan, seen, records, found.grown_at):
        lost = _lost_for_certain(seen, found.promises)
        return ("failed" if lost else "void"), [*_missed(lost), *map(sentence, doubts)]
    why = _missed(found.promises)
    if found.grown_at is None:
        why.insert(0, _why_not_grown(plan, found.phases))
    if found.workers_back_at is None or (plan.nodes_follow and found.nodes_back_at is None):
        why.extend(f"At the end there were {more}." for more in surplus(seen.samples[-1], seen.before) if more)
    return ("failed" if why else "passed"), why


def _missed(promises: Sequence[Slo]) -> list[str]:
    return [f"{promise.name}: {promise.actual}, promised was {promise.target}." for promise in promises if not promise.passed]


def _lost_for_certain(seen: Seen, promises: Sequence[Slo]) -> list[Slo]:
    """Return the promises that the recorded losses are enough to miss; none when the records may be another load's."""
    foreign = any(load.seen is not None and load.records > load.seen.sent for load in seen.loads)
    return [promise for promise in promises if promise.id in COUNTS and not promise.passed and not foreign]


def _doubts(plan: Plan, seen: Seen, records: Sequence[Record], grown_at: float | None) -> list[str]:
    """Return why the measurement cannot be trusted; empty when it can."""
    if not records:
        return ["there are no records of requests"]
    if not any(s.t >= (seen.surge_at or 0) for s in seen.samples):
        return ["the service was not observed in the surge"]
    reasons = [reason for n, load in enumerate(seen.loads) for reason in _load_doubts(load, seen.ended_at if n else seen.stopped_at)]
    reasons += _late(seen, records)
    if len(seen.loads) != plan.factor:
        reasons.append(f"{len(seen.loads)} loads were there instead of {plan.factor}")
    if plan.drill is not None and grown_at is not None:
        reasons += _fault_doubts(plan.drill, seen)
    return reasons


def _fault_doubts(drill: Drill, seen: Seen) -> list[str]:
    """Why it is not known that the fault happened; empty when it is."""
    at, before = seen.head_deleted_at, seen.before
    if at is None:
        return ["the fault was not injected: no worker was seen on its way, so there was no middle of the growth"]
    reasons = [unproven(drill.faults, seen.strikes, before.snapshot(), s.snapshot()) for s in seen.samples if s.t > at] if before else []
    return [] if reasons and not all(reasons) else [f"the fault did not happen: {reasons[-1][0] if reasons else 'nothing was observed'}"]


def _late(seen: Seen, records: Sequence[Record]) -> list[str]:
    """Return why too few requests were sent when they were due, in total or in the surge: a hole in the load could hide an outage."""
    surging = [r for r in records if seen.surge_at is not None and seen.ended_at is not None and seen.surge_at <= r.due < seen.ended_at]
    found = []
    for when, those in (("in total", records), ("in the surge", surging)):
        late = sum(r.sent - r.due > LATE_S for r in those)
        if late > (1 - ON_TIME) * len(those):
            found.append(f"{late} of {len(those)} requests due {when} were sent more than {LATE_S:g} s late")
    return found


def _load_doubts(load: LoadResult, until: float | None) -> list[str]:
    if load.seen is None:
        return [f"the load {load.name} could not be asked what it sent, so records may be missing: {load.trouble or 'it never sent'}"]
    reasons = []
    if load.records != load.seen.sent:
        reasons.append(f"the load {load.name} sent {load.seen.sent} requests and {load.records} records of them are there")
    if until is not None and load.stopped is not None and load.stopped < until - EARLY_S:
        reasons.append(f"the load {load.name} ended {until - load.stopped:.0f} s too early")
    return reasons


def _why_not_grown(plan: Plan, phases: Sequence[PhaseSeen]) -> str:
    asked = max((p.under_way for p in phases if p.name in ("growing", "grown")), default=0.0)
    carried = plan.workers * plan.ongoing_requests
    if asked <= carried:
        return (
            f"The surge asked for no more workers: {asked:.1f} requests were under way on average, and {plan.workers} workers are sized "
            f"for {plan.workers} × {plan.ongoing_requests:g}. Give it more streams, or a greater factor."
        )
    return (
        f"The service did not grow: {asked:.1f} requests were under way on average, more than the {carried:g} that {plan.workers} workers "
        "are sized for."
    )


def _headline(verdict: Verdict, plan: Plan, seen: Seen, records: Sequence[Record], found: Judgement, why: Sequence[str]) -> str:
    if verdict == "aborted":
        return f"There was no surge, so nothing can be said. {why[0]}"
    if verdict == "void":
        return f"The surge has no verdict, since its measurement cannot be trusted. {why[0]}"
    short = sum(r.kind == "short" for r in records)
    lost = sum(not r.ok for r in records)
    answered = f"all {short:,} requests and all {len(records) - short:,} token streams were answered in full"
    if lost:
        answered = f"{lost:,} of {len(records):,} requests and token streams were lost"
    if verdict == "failed":
        return f"{plan.factor} times the load, and not all held: {answered}. {why[0]}"
    # A verdict of "passed" has both moments.
    grown = (found.grown_at or 0.0) - (seen.surge_at or 0.0)
    moments = [t for t in (found.workers_back_at, found.nodes_back_at if plan.nodes_follow else None) if t is not None]
    shrunk = max(moments, default=0.0) - (seen.ended_at or 0.0)
    what = "workers and nodes" if plan.nodes_follow else "workers"
    though = f" in spite of the fault ({plan.drill.title.lower()})" if plan.drill else ""
    return (
        f"{plan.factor} times the load: {found.most_workers} workers instead of {plan.workers}, the first new one after {grown:.0f} s"
        f"{though}; {what} were as before {shrunk:.0f} s after its end; {answered}."
    )
