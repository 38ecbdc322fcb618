"""The SLOs of a drill, each compared with what was measured. An SLO that was not measured does not pass.

An SLO is a field of `Slos` in drills/definition.py, its limit, and a line in `evaluate` here; trust.py has the doubts that touch it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from drills.definition import Drill, Slos
from drills.faults import Surge
from drills.judge.steady_state import not_redundant, not_steady
from drills.judge.traffic import Phase, PhaseSeen, by_kind, longest_gap_s, losses, lost_at
from drills.judge.workers import WorkerProof
from drills.observed import Observation
from drills.records import Record
from drills.value import Value

COUNTS = ("failed-requests", "lost-streams", "wrong-answers")
"""Ids of the SLOs that count losses."""
LATENCIES = ("p99-before", "p99-during", "p99-after", "token-gap")
"""Ids of the other SLOs that are measured from the records."""
LOSSES = (*COUNTS, "losses-end")
"""Ids of the SLOs about losses: their number, and when the last one was."""
GROWTH = ("grew", "new-node", "new-answered")
"""Ids of the SLOs on how a service follows a surge."""
ALL = (*LOSSES, *LATENCIES, "recovery", "workers", "redundancy", *GROWTH)
"""Ids of all SLOs. Those that are no counts or latencies are measured from snapshots, so that no doubt about the load touches them."""


class Slo(Value):
    """One promise and whether it was kept, in words that need no further context."""

    id: str
    """Identifier for programs; it does not change when the texts do."""
    name: str
    target: str
    actual: str
    passed: bool
    limit: float | None = None
    value: float | None = None
    """The measured value; None when it was not measured."""
    doubted: str = ""
    """Why `passed` cannot be trusted, whether it is true or false; empty when it can."""

    @property
    def standing(self) -> Literal["kept", "missed", "in doubt"]:
        """Whether the promise counts as kept, as missed, or as neither."""
        return "in doubt" if self.doubted else "kept" if self.passed else "missed"


def evaluate(
    drill: Drill,
    observation: Observation,
    records: Sequence[Record],
    phases: dict[Phase, PhaseSeen],
    workers: Sequence[WorkerProof],
    recovery_s: float | None,
) -> tuple[Slo, ...]:
    """Compare every SLO of the drill with what was measured; records and recovery are on the observer's clock.

    Of a surge there are no SLOs on latencies, which a service that is too small for its load cannot keep, or on the workers, of which the
    emptiest one goes.
    """
    limits = drill.slos
    if drill.surge:
        growth = _growth(drill, drill.surge, observation)
        return (*counts(limits, records), *growth, _recovery(limits, observation, recovery_s), _redundant(drill, observation))
    return (
        *counts(limits, records),
        *_losses_end(limits, observation, records),
        *(_p99(phases[name], limits.p99_during_ms if name == "during" else limits.p99_steady_ms) for name in phases),
        _gap(limits, by_kind(records)[1]),
        _recovery(limits, observation, recovery_s),
        _untouched(limits, workers),
        _redundant(drill, observation),
    )


def _most(id_: str, name: str, limit: float, value: float | None, actual: str, target: str = "") -> Slo:
    """Return an SLO that passes when the value was measured and is at most the limit; without a `target` in words it is a number."""
    target = target or ("none" if limit == 0 else f"at most {limit}")
    return Slo(id=id_, name=name, target=target, actual=actual, passed=value is not None and value <= limit, limit=limit, value=value)


def counts(limits: Slos, records: Sequence[Record]) -> list[Slo]:
    """Return the SLOs that count losses, over these records."""
    short, streams = by_kind(records)
    failed, lost = sum(not r.ok for r in short), sum(not r.ok for r in streams)
    wrong = sum(r.outcome == "wrong" for r in records)
    ways = f" ({losses(streams)})" if lost else ""
    return [
        _most("failed-requests", "Failed requests", limits.max_failed_requests, failed, f"{failed:,} of {len(short):,}"),
        _most("lost-streams", "Lost streams", limits.max_lost_streams, lost, f"{lost:,} of {len(streams):,}{ways}"),
        _most("wrong-answers", "Wrong answers", limits.max_wrong_answers, wrong, f"{wrong:,} of {len(records):,}"),
    ]


def _losses_end(limits: Slos, observation: Observation, records: Sequence[Record]) -> list[Slo]:
    """Return the SLO on the last loss after a fault, where there is such a promise: its distance from the end of the last fault before."""
    limit, fault_at = limits.losses_end_within_s, observation.fault_at
    if limit is None or fault_at is None:
        return []
    ends = sorted((strike.at, strike.healed_at) for strike in observation.strikes) or [(fault_at, fault_at)]
    lost = [at for at in (lost_at(r) for r in records if not r.ok) if at >= fault_at]
    late = max((min(max(0.0, at - end) for since, end in ends if since <= at) for at in lost), default=0.0)
    actual = f"the last {late:.1f} s after it" if lost else "nothing was lost"
    return [_most("losses-end", "Nothing lost any more after a fault", limit, late, actual, f"from {limit:g} s on")]


def _p99(phase: PhaseSeen, limit: float) -> Slo:
    names = {"before": "before the fault", "during": "until recovered", "after": "after recovery"}
    actual = "no request finished" if phase.p99_ms is None else f"{phase.p99_ms:,.0f} ms"
    return _most(f"p99-{phase.name}", f"Latency, p99, {names[phase.name]}", limit, phase.p99_ms, actual, f"at most {limit:,.0f} ms")


def _gap(limits: Slos, streams: Sequence[Record]) -> Slo:
    # A load without streams is silent nowhere; streams that are missing from the records are a doubt of trust.py.
    gap = max((longest_gap_s(r) for r in streams), default=0.0)
    limit = limits.max_token_gap_s
    return _most("token-gap", "Longest silence in a stream", limit, gap, f"{gap:.2f} s", f"at most {limit:g} s")


def _recovery(limits: Slos, observation: Observation, recovery_s: float | None) -> Slo:
    watched = max(0.0, observation.ended - (observation.healed_at or observation.started))
    actual = f"not within {watched:.0f} s" if recovery_s is None else f"{recovery_s:.1f} s"
    limit = limits.max_recovery_s
    return _most("recovery", "Recovered, redundancy included", limit, recovery_s, actual, f"within {limit:g} s")


def _untouched(limits: Slos, workers: Sequence[WorkerProof]) -> Slo:
    there = [w for w in workers if w.uid_before is not None]
    touched = sum(bool(w.touched) for w in there)
    value = touched if there else None
    actual = f"{touched} of {len(there)}" if there else "no worker was seen"
    return _most("workers", "Workers touched", limits.max_workers_touched, value, actual)


def _growth(drill: Drill, surge: Surge, observation: Observation) -> list[Slo]:
    """Return the SLOs on the workers and nodes that came in the surge; none when it was not observed."""
    before, strike = observation.before, next(iter(observation.strikes), None)
    if before is None or strike is None:
        return []
    later = [s for s in observation.snapshots if s.t > strike.at]
    grown = surge.grown_at(before, later, strike)
    took = None if grown is None else grown - strike.at
    actual = "not in that time" if took is None else f"after {took:.0f} s"
    found = [_most("grew", "More workers answer", surge.grow_within_s, took, actual, f"within {surge.grow_within_s:g} s")]
    if before.nodes is not None:
        came = {w.node for s in later for w in s.new_workers(before) if w in s.answering} - {None, *before.nodes}
        wanted = max(1, max((len(s.answering) for s in later), default=0) - len(before.answering))
        name, target = "New nodes with a worker that answers", f"at least {wanted}"
        found.append(Slo(id="new-node", name=name, target=target, actual=f"{len(came)}", passed=len(came) >= wanted))
    if counted := strike.answered:
        actual = "; ".join(f"{n:,} requests by {pod}" for pod, n in counted.items())
        passed = min(counted.values()) > 0
        found.append(Slo(id="new-answered", name="Answered by new workers", target="some by each", actual=actual, passed=passed))
    return found


def _redundant(drill: Drill, observation: Observation) -> Slo:
    reasons = missing_at_the_end(drill, observation)
    actual = "; ".join(reasons) or "as before the fault"
    return Slo(id="redundancy", name="Redundancy at the end", target="as before the fault", actual=actual, passed=not reasons)


def missing_at_the_end(drill: Drill, observation: Observation) -> list[str]:
    """Return why the last snapshot does not show the steady state with all that there was before; empty when it does.

    Where Ray could not be asked for the very last snapshot, its latest answer after the fault stands in.
    """
    before, later = observation.before, observation.later
    if before is None or not later:
        return ["the cluster was not observed after the fault"]
    asked = [s for s in later if not s.blind]
    whole = later[-1].filled_from(asked[-1]) if asked else later[-1]
    known = next((s.answer for s in reversed(observation.snapshots) if s.answer is not None), None)
    whole = whole if whole.answer else whole.model_copy(update={"answer": known})
    return list(dict.fromkeys(not_steady(whole, drill.steady_state) + not_redundant(before, whole)))
