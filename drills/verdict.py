"""The verdict over a drill.

    aborted  the steady state did not hold before the fault, or the drill was stopped: nothing can be said
    void     the measurement itself is not to be trusted (drills.trust): nothing can be said
    failed   at least one SLO was missed
    passed   every SLO was met, and the measurement could have shown otherwise

In that order: the first that applies is the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from drills._value import Value
from drills.definition import Drill
from drills.observation import Event, Observation
from drills.slos import Slo, evaluate
from drills.steady_state import judge as judge_steady_state
from drills.steady_state import recovered_at
from drills.timeline import of as timeline_of
from drills.traffic import PhaseSeen, on_observers_clock, phases_seen
from drills.trust import doubts, unseen
from drills.why import headline, why
from drills.workers import WorkerProof, prove
from serving.records import Record

__all__ = ["Judgement", "Slo", "Verdict", "judge"]

Verdict = Literal["passed", "failed", "aborted", "void"]


class Judgement(Value):
    """The verdict and everything it rests on."""

    verdict: Verdict
    headline: str
    """The verdict in one sentence."""
    why: tuple[str, ...]
    """Why it is not "passed", most important first; empty when it is."""
    slos: tuple[Slo, ...]
    """Empty when no fault was injected: there is nothing to compare."""
    recovered_at: float | None
    """On the observer's clock; None when the service did not recover."""
    recovery_s: float | None
    """From the fault until the steady state held again for good, redundancy included."""
    phases: tuple[PhaseSeen, ...]
    workers: tuple[WorkerProof, ...]
    events: tuple[Event, ...]


def judge(drill: Drill, observation: Observation, records: Iterable[Record]) -> Judgement:
    """The verdict; the records as the load generator wrote them (on its own clock)."""
    requests = on_observers_clock(records, observation.clock_offset_s)
    fault_at = observation.fault_at
    recovered = _recovered(drill, observation)
    recovery_s = recovered - fault_at if recovered is not None and fault_at is not None else None
    phases = phases_seen(requests, fault_at, recovered)
    workers = prove(observation)
    events = timeline_of(observation, drill, recovered)
    slos = () if fault_at is None else evaluate(drill, observation, requests, phases, workers, recovery_s)
    verdict, reasons = _verdict(drill, observation, requests, phases["before"], slos, recovered)
    if verdict in ("failed", "void"):
        reasons += why(drill, observation, requests, slos, workers, events)
    return Judgement(
        verdict=verdict,
        headline=headline(verdict, drill, requests, recovery_s, reasons),
        why=tuple(reasons),
        slos=slos,
        recovered_at=recovered,
        recovery_s=recovery_s,
        phases=tuple(phases.values()),
        workers=workers,
        events=events,
    )


def _recovered(drill: Drill, observation: Observation) -> float | None:
    before, fault_at = observation.before, observation.fault_at
    if before is None or fault_at is None:
        return None
    return recovered_at(before, [s for s in observation.snapshots if s.t > fault_at], drill)


def _verdict(
    drill: Drill,
    observation: Observation,
    records: Sequence[Record],
    before: PhaseSeen,
    slos: Sequence[Slo],
    recovered: float | None,
) -> tuple[Verdict, list[str]]:
    stopped = _stopped(drill, observation)
    if stopped:
        return "aborted", stopped
    reasons = [_sentence(reason) for reason in doubts(drill, observation, records, before, recovered)]
    if not reasons and [slo.id for slo in slos if not slo.passed] == ["recovery"] and (hole := unseen(drill, observation, recovered)):
        reasons = [_sentence(hole)]
    if reasons:
        return "void", reasons
    return ("passed" if slos and all(slo.passed for slo in slos) else "failed"), []


def _stopped(drill: Drill, observation: Observation) -> list[str]:
    """Why the drill counts as stopped: it was, or its steady state did not hold before the fault."""
    if observation.aborted:
        return [_sentence(observation.aborted)]
    if observation.before is None:
        return ["The steady state was not looked at before the fault."]
    return [_sentence(f"before the fault: {reason}") for reason in judge_steady_state(observation.before, drill.steady_state)]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
