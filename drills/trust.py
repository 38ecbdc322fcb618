"""Whether the measurement itself can be trusted. A drill that cannot fail proves nothing; each reason here makes it void."""

from __future__ import annotations

from collections.abc import Sequence

from drills.definition import Drill
from drills.observation import LoadSeen, Observation
from drills.steady_state import LATE_S, fault_happened
from drills.traffic import PhaseSeen
from serving.records import Record

__all__ = ["HOLE_S", "ON_TIME", "doubts", "unseen"]

ON_TIME = 0.95
"""Share of the load that must have been sent on time, in all and between fault and recovery."""
HOLE_S = 20.0
"""Beyond the time between two looks: longer than a look takes whose every question runs into its time limit."""


def doubts(drill: Drill, observation: Observation, records: Sequence[Record], before: PhaseSeen, recovered_at: float | None) -> list[str]:
    """Why the measurement is not to be trusted; records on the observer's clock. Empty: it is."""
    load = observation.load
    if not records:
        return ["there are no records of requests"]
    if load is None:
        return ["the load generator could not be asked what it sent, so the records may be incomplete"]
    offset = observation.clock_offset_s
    load = load.model_copy(update={"started": load.started - offset, "stopped": load.stopped - offset})
    return [
        *_records(records, load),
        *_fault(drill, observation),
        *_already(drill, before),
        *_sent(drill, observation, records, load, recovered_at),
    ]


def unseen(drill: Drill, observation: Observation, recovered_at: float | None) -> str:
    """Why it cannot be said whether the service recovered in time: nobody looked when it had to, as the runner or the API server was
    away. Empty: it can."""
    fault_at = observation.fault_at
    if fault_at is None or recovered_at is None:
        return ""
    looked = max([fault_at, *(s.t for s in observation.snapshots if s.t < recovered_at)])
    if looked - fault_at > drill.slos.max_recovery_s or recovered_at - looked <= HOLE_S + drill.timing.poll_s:
        return ""
    since, until = looked - fault_at, recovered_at - fault_at
    return f"nobody looked at the service from {since:.0f} to {until:.0f} s after the fault, and it recovered meanwhile"


def _records(records: Sequence[Record], load: LoadSeen) -> list[str]:
    found = len({r.id for r in records})
    reasons = [f"{load.sent - found} of {load.sent} records are missing"] if found < load.sent else []
    reasons += [f"there are records of {found} requests, and {load.sent} were sent: some are another load's"] if found > load.sent else []
    return reasons + ([f"{len(records) - found} records are there twice"] if found < len(records) else [])


def _fault(drill: Drill, observation: Observation) -> list[str]:
    if observation.fault_at is None:
        return ["the fault was not injected"]
    later = [s for s in observation.snapshots if s.t > observation.fault_at]
    if not later:
        return ["the cluster was not looked at after the fault"]
    if any(fault_happened(observation.before, snapshot, drill.fault) for snapshot in later):
        return []
    pod = "worker" if drill.fault.proof == "worker-pod-replaced" else "head"
    return [f"the fault did not happen: the {pod} pod has the same UID as before"]


def _already(drill: Drill, before: PhaseSeen) -> list[str]:
    lost = before.streams - before.outcomes["finished"]
    reasons = []
    if before.requests == 0:
        reasons.append("no request ended before the fault, so there is nothing to compare with")
    if before.failed or lost:
        reasons.append(f"the service failed {before.failed} requests and {lost} streams before the fault")
    limit = drill.slos.p99_steady_ms
    if before.p99_ms is not None and before.p99_ms > limit:
        reasons.append(f"the service was too slow before the fault: p99 {before.p99_ms:,.0f} ms, limit {limit:,.0f} ms")
    return reasons


def _sent(drill: Drill, observation: Observation, records: Sequence[Record], load: LoadSeen, recovered_at: float | None) -> list[str]:
    short = [r for r in records if r.kind == "short"]
    reasons = [_too_few(drill, short, load.started, load.stopped, "in all")]
    fault_at = observation.fault_at
    if fault_at is not None:
        until = recovered_at if recovered_at is not None else min(observation.ended, load.stopped)
        reasons.append(_too_few(drill, short, fault_at, max(until, fault_at + 1), "between the fault and recovery"))
        reasons.append(_no_streams(drill, records, fault_at))
        if recovered_at is not None:
            # The load goes on for `after_s`; one that ended by itself before does not show what came late.
            until = max(load.stopped, recovered_at + drill.timing.after_s)
            reasons.append(_too_few(drill, short, recovered_at, until, "after recovery"))
    return [reason for reason in reasons if reason]


def _too_few(drill: Drill, short: Sequence[Record], since: float, until: float, when: str) -> str:
    """Why too little was sent on time in that time; empty when enough was. One request more or less is rounding, but none says nothing."""
    due = drill.load.short_per_s * (until - since)
    on_time = sum(since <= r.due < until and r.sent - r.due <= LATE_S for r in short)
    if on_time and on_time >= ON_TIME * due - 1:
        return ""
    due = max(due, 1.0)
    return f"only {on_time} of {due:.0f} short requests due {when} were sent on time (within {LATE_S:g} s): {on_time / due:.0%}"


def _no_streams(drill: Drill, records: Sequence[Record], fault_at: float) -> str:
    """Why too few streams were in mid-answer when the fault struck; half of those wanted is enough."""
    wanted = drill.load.streams
    alive = sum(r.kind == "stream" and r.sent <= fault_at <= r.end for r in records)
    return f"only {alive} of {wanted} streams were alive when the fault struck" if alive < wanted / 2 else ""
