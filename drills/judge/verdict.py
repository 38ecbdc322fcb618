"""The verdict on a drill.

    failed   at least one SLO was missed, and nothing puts that in doubt (drills.judge.trust)
    aborted  the steady state did not hold before the fault, or the drill was stopped
    void     at least one SLO is in doubt
    passed   every SLO was met, and the measurement could have shown otherwise

The first of these that applies is the verdict. So a recorded loss is never void.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from drills.definition import Drill
from drills.judge.reasons import headline, reasons_of, sentence
from drills.judge.slos import Slo, evaluate
from drills.judge.steady_state import not_steady, recovered_at
from drills.judge.timeline import build_timeline
from drills.judge.traffic import PhaseSeen, on_observers_clock, phases_seen
from drills.judge.trust import doubt_everything, doubts, not_proven
from drills.judge.workers import WorkerProof, worker_proofs
from drills.observed import Event, Observation
from drills.records import Record
from drills.value import Value

Verdict = Literal["passed", "failed", "aborted", "void"]


class Judgement(Value):
    """The verdict and everything that it is based on."""

    verdict: Verdict
    headline: str
    """The verdict in one sentence."""
    why: tuple[str, ...]
    """Reasons why the verdict is not "passed", most important first; empty when it is."""
    slos: tuple[Slo, ...]
    """All SLOs with what was measured; empty when no fault was injected."""
    recovered_at: float | None
    """When the service recovered, on the observer's clock; None when it did not."""
    recovery_s: float | None
    """Seconds from the end of the last fault until the steady state held again to the end, redundancy included."""
    phases: tuple[PhaseSeen, ...]
    workers: tuple[WorkerProof, ...]
    events: tuple[Event, ...]


def judge(drill: Drill, observation: Observation, records: Iterable[Record]) -> Judgement:
    """Judge a drill. The records are as the load generator wrote them, on its own clock."""
    drill = _as_done(drill, observation)
    requests = on_observers_clock(records, observation.clock_offset_s)
    fault_at = observation.fault_at
    before, healed_at = observation.before, observation.healed_at
    recovered = recovered_at(before, observation.later, drill, observation.strikes) if before else None
    recovery_s = recovered - healed_at if recovered is not None and healed_at is not None else None
    phases = phases_seen(requests, fault_at, recovered)
    workers = () if drill.surge else worker_proofs(observation)
    events = build_timeline(observation, drill, recovered)
    slos = () if fault_at is None else evaluate(drill, observation, requests, phases, workers, recovery_s)
    stopped = _stopped(drill, observation)
    found = [doubt_everything(drill, observation, requests, reason) for reason in stopped]
    found += doubts(drill, observation, requests, phases["before"], recovered)
    slos = tuple(slo.model_copy(update={"doubted": "; ".join(doubt.reason for doubt in found if doubt.touches(slo))}) for slo in slos)
    verdict = _verdict(slos, bool(stopped))
    explained = reasons_of(drill, observation, requests, [slo for slo in slos if slo.standing == "missed"] or slos, workers, events)
    touched = [(doubt, [slo.name for slo in slos if doubt.touches(slo)]) for doubt in found]
    reasons = {
        "passed": [],
        "failed": [*explained, *(f"In doubt ({'; '.join(names)}): {doubt.reason}." for doubt, names in touched if names)],
        "aborted": [sentence(reason) for reason in stopped],
        "void": [*(sentence(doubt.reason) for doubt in found), *explained],
    }[verdict]
    return Judgement(
        verdict=verdict,
        headline=headline(verdict, drill, requests, slos, recovery_s, reasons, proven=not not_proven(drill, observation)),
        why=tuple(reasons),
        slos=slos,
        recovered_at=recovered,
        recovery_s=recovery_s,
        phases=tuple(phases.values()),
        workers=workers,
        events=events,
    )


def _as_done(drill: Drill, observation: Observation) -> Drill:
    """Return the drill without the faults that had no moment, because the service did not grow in its surge."""
    before, strikes = observation.before, observation.strikes
    if drill.surge is None or before is None or not strikes or drill.surge.grown_at(before, observation.snapshots, strikes[0]) is not None:
        return drill
    return drill.model_copy(update={"faults": drill.faults[: len(strikes)]})


def _verdict(slos: Sequence[Slo], stopped: bool) -> Verdict:
    standing = {slo.standing for slo in slos}
    if "missed" in standing:
        return "failed"
    if stopped:
        return "aborted"
    return "passed" if standing == {"kept"} else "void"


def _stopped(drill: Drill, observation: Observation) -> list[str]:
    """Return why the drill counts as stopped: it was, or its steady state did not hold before the fault."""
    if observation.aborted:
        return [observation.aborted]
    if observation.before is None:
        return ["the service was not observed before the fault"]
    return [f"before the fault: {reason}" for reason in not_steady(observation.before, drill.steady_state)]
