"""Whether the measurement itself can be trusted: a drill that cannot fail proves nothing.

A doubt touches some SLOs, and each in one direction or both: missing records make "none lost" doubtful, and not "seven lost".
A loss after the fault is a fact whatever else was wrong; only records of another load put it in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from drills.definition import Drill
from drills.faults import unproven
from drills.judge.slos import ALL, GROWTH, LATENCIES, LOSSES, Slo, counts
from drills.judge.steady_state import LATE_S
from drills.judge.traffic import PhaseSeen, by_kind
from drills.observed import LoadSeen, Observation
from drills.records import Record
from drills.value import Value

ON_TIME = 0.95
"""Share of the load that must have been sent on time, in total and between fault and recovery."""
HOLE_S = 20.0
"""Seconds between two snapshots, beyond the poll interval, from which on the service counts as not observed. A snapshot takes less, even
when each of its requests runs into its time limit."""
RECORDED = (*LOSSES, *LATENCIES)
"""Ids of the SLOs that are measured from the records."""
PERCENTILES = ("p99-before", "p99-during", "p99-after")
"""Ids of the SLOs that a part of the records cannot decide, in either direction: a percentile of a part says little about the whole, and
neither does a time without requests. A count or a maximum of a part is a lower bound, so a miss stays a miss."""


class Doubt(Value):
    """Why a part of the measurement cannot be trusted."""

    reason: str
    kept: tuple[str, ...] = ()
    """Ids of the SLOs that may have been missed although they look kept."""
    missed: tuple[str, ...] = ()
    """Ids of the SLOs that may have been kept although they look missed, or were missed for another reason than the fault."""

    def touches(self, slo: Slo) -> bool:
        """Whether the doubt applies to this SLO as it was measured."""
        return slo.id in (self.kept if slo.passed else self.missed)


def doubts(drill: Drill, observation: Observation, records: Sequence[Record], before: PhaseSeen, recovered_at: float | None) -> list[Doubt]:
    """Return everything that puts the measurement in doubt; records are on the observer's clock. Empty when nothing does."""
    load, offset, uncertain = observation.load, observation.clock_offset_s, not_certain(drill, observation, records)
    if load is not None:
        load = load.model_copy(update={"started": load.started - offset, "stopped": load.stopped - offset})
    reason = not_proven(drill, observation)
    return [
        *_records(records, load, uncertain),
        *([Doubt(reason=reason, kept=ALL, missed=uncertain)] if reason else []),
        *_before(drill, before, uncertain),
        *_sent(drill, observation, records, load, recovered_at),
        *_unseen(drill, observation, recovered_at),
        *_unseen_growth(drill, observation),
    ]


def not_certain(drill: Drill, observation: Observation, records: Sequence[Record]) -> tuple[str, ...]:
    """Return the ids of all SLOs but those that were certainly missed: by the losses after the fault alone, each counted once."""
    fault_at = observation.fault_at
    later = [r for r in dict.fromkeys(records) if fault_at is not None and r.end >= fault_at]
    lost = {slo.id for slo in counts(drill.slos, later) if not slo.passed}
    return tuple(name for name in ALL if name not in lost)


def doubt_everything(drill: Drill, observation: Observation, records: Sequence[Record], reason: str) -> Doubt:
    """Return a doubt about everything but the losses after the fault."""
    return Doubt(reason=reason, kept=ALL, missed=not_certain(drill, observation, records))


def _unseen(drill: Drill, observation: Observation, recovered_at: float | None) -> Iterator[Doubt]:
    """Yield the doubt about a recovery that was not observed in time because the runner or the API server was away."""
    fault_at = observation.healed_at
    if fault_at is None or recovered_at is None:
        return
    last = max([fault_at, *(s.t for s in observation.snapshots if s.t < recovered_at)])
    since, until = last - fault_at, recovered_at - fault_at
    if since <= drill.slos.max_recovery_s and recovered_at - last > HOLE_S + drill.timing.poll_s:
        reason = f"the service was not observed from {since:.0f} to {until:.0f} s after the fault, and it recovered meanwhile"
        yield Doubt(reason=reason, missed=("recovery",))


def _unseen_growth(drill: Drill, observation: Observation) -> Iterator[Doubt]:
    """Yield the doubt about a growth that may not have been observed because the runner or the API server was away in the surge."""
    if drill.surge is None or not observation.strikes:
        return
    since, until = observation.strikes[0].at, observation.strikes[0].healed_at
    moments = [since, *(s.t for s in observation.snapshots if since < s.t < until), until]
    hole = max(later - earlier for earlier, later in pairwise(moments))
    if hole > HOLE_S + drill.timing.poll_s:
        yield Doubt(reason=f"the service was not observed for {hole:.0f} s of the surge, and may have grown then", missed=GROWTH)


def _records(records: Sequence[Record], load: LoadSeen | None, uncertain: tuple[str, ...]) -> Iterator[Doubt]:
    if not records:
        yield Doubt(reason="there are no records of requests", kept=RECORDED, missed=RECORDED)
        return
    found, distinct = len({r.id for r in records}), len(set(records))
    if load is None:
        reason = "the load generator could not be asked what it sent, so the records may be incomplete"
        yield Doubt(reason=reason, kept=RECORDED, missed=PERCENTILES)
    elif found < load.sent:
        yield Doubt(reason=f"{load.sent - found} of {load.sent} records are missing", kept=RECORDED, missed=PERCENTILES)
    elif found > load.sent:
        reason = f"there are records of {found} requests, and {load.sent} were sent: some are another load's"
        yield Doubt(reason=reason, kept=RECORDED, missed=RECORDED)
    if found < distinct:
        reason = f"{distinct - found} records contradict another record of the same request: some are another load's"
        yield Doubt(reason=reason, kept=RECORDED, missed=RECORDED)
    if distinct < len(records):
        reason = f"{len(records) - distinct} records are there twice"
        yield Doubt(reason=reason, kept=RECORDED, missed=tuple(n for n in uncertain if n in LOSSES) + PERCENTILES)


def not_proven(drill: Drill, observation: Observation) -> str:
    """Return why it is not known that the faults happened; empty when it is known."""
    if observation.fault_at is None:
        return "the fault was not injected"
    if not observation.later:
        return "the cluster was not observed after the fault"
    before = observation.before
    reasons = (
        [unproven(drill.faults, observation.strikes, before, snapshot) for snapshot in observation.later] if before is not None else []
    )
    if not all(reasons):
        return ""
    return f"the fault did not happen: {reasons[-1][0] if reasons else 'the service was not observed before it'}"


def _before(drill: Drill, before: PhaseSeen, uncertain: tuple[str, ...]) -> Iterator[Doubt]:
    """Yield the doubts about a service that was slow or lost requests before the fault, thus for another reason."""
    lost = before.streams - before.outcomes["finished"]
    limit = drill.slos.p99_steady_ms
    if before.requests == 0:
        reason = "no request ended before the fault, so there is nothing to compare with"
        yield Doubt(reason=reason, kept=RECORDED, missed=LATENCIES)
    if before.failed or lost:
        reason = f"the service failed {before.failed} requests and {lost} streams before the fault"
        yield Doubt(reason=reason, kept=LOSSES, missed=tuple(n for n in uncertain if n in RECORDED))
    if before.p99_ms is not None and before.p99_ms > limit:
        reason = f"the service was too slow before the fault: p99 {before.p99_ms:,.0f} ms, limit {limit:,.0f} ms"
        yield Doubt(reason=reason, missed=LATENCIES)


def _sent(
    drill: Drill, observation: Observation, records: Sequence[Record], load: LoadSeen | None, recovered_at: float | None
) -> Iterator[Doubt]:
    """Yield the doubts about the load: a request that was not sent could not be lost, and one that was sent late looks slow."""
    short, _ = by_kind(records)
    if load is not None:
        yield from _too_few(drill, observation, short, load.started, load.stopped, "in total", LATENCIES)
    fault_at = observation.fault_at
    if fault_at is None:
        return
    stopped = observation.ended if load is None else load.stopped
    until = recovered_at if recovered_at is not None else min(observation.ended, stopped)
    during = ("p99-during", "token-gap")
    yield from _too_few(drill, observation, short, fault_at, max(until, fault_at + 1), "between the fault and recovery", during)
    if drill.surge and observation.strikes:
        ended = min(observation.strikes[0].healed_at, stopped)
        yield from _too_few(drill, observation, short, fault_at, max(ended, fault_at + 1), "in the surge", (*during, *GROWTH))
    # Half of the number of streams that the load keeps alive is enough.
    wanted = drill.load.streams
    alive = observation.outliving_streams + sum(r.kind == "stream" and r.sent <= fault_at <= r.end for r in records)
    if alive < wanted / 2:
        reason = f"only {alive} of {wanted} streams were alive at the fault"
        yield Doubt(reason=reason, kept=("lost-streams", "wrong-answers", "losses-end", "token-gap"))
    if recovered_at is not None:
        # The load goes on for `after_s`; one that ended earlier by itself does not show late losses.
        until = max(stopped, recovered_at + drill.timing.after_s)
        yield from _too_few(drill, observation, short, recovered_at, until, "after recovery", ("p99-after", "token-gap"))


def _too_few(
    drill: Drill,
    observation: Observation,
    short: Sequence[Record],
    since: float,
    until: float,
    when: str,
    latencies: tuple[str, ...],
) -> Iterator[Doubt]:
    """Yield the doubt when too few short requests of that time were sent on time. A difference of one request is rounding, but no request
    at all proves nothing."""
    seconds = until - since
    if drill.surge and observation.strikes:
        strike = observation.strikes[0]
        seconds += (drill.surge.factor - 1) * max(0.0, min(until, strike.healed_at) - max(since, strike.at))
    due = drill.load.short_per_s * seconds
    on_time = sum(since <= r.due < until and r.sent - r.due <= LATE_S for r in short)
    if not on_time or on_time < ON_TIME * due - 1:
        due = max(due, 1.0)
        reason = f"only {on_time} of {due:.0f} short requests due {when} were sent on time (within {LATE_S:g} s): {on_time / due:.0%}"
        yield Doubt(reason=reason, kept=(*LOSSES, *latencies), missed=latencies)
