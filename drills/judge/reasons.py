"""The sentences of a report: the verdict for a manager, and the reasons of a missed SLO for an engineer."""

from __future__ import annotations

from collections.abc import Sequence

from drills.definition import Drill
from drills.faults import Surge
from drills.judge.causes import causes_of, what_clients_saw
from drills.judge.slos import COUNTS, LOSSES, Slo
from drills.judge.traffic import by_kind, losses, lost_at
from drills.judge.workers import WorkerProof
from drills.observed import Event, Observation
from drills.records import Record

MOST_OBJECTS = 3
"""Number of objects that one sentence names; the report lists them all."""


def headline(
    verdict: str,
    drill: Drill,
    records: Sequence[Record],
    slos: Sequence[Slo],
    recovery_s: float | None,
    why: Sequence[str],
    *,
    proven: bool,
) -> str:
    """Return the verdict in one sentence that needs no explanation.

    Args:
        why: The reasons for the verdict.
        proven: Whether it is known that the fault happened.
    """
    grew = next((slo for slo in slos if slo.id == "grew" and slo.passed), None)
    subject = f"{drill.title}, more workers answered {grew.actual}" if grew else drill.title
    if verdict == "aborted":
        return f"The drill “{subject}” was stopped, so nothing can be said. {why[0] if why else ''}".strip()
    if verdict == "void":
        return f"The drill “{subject}” has no verdict, since its measurement cannot be trusted. {why[0] if why else ''}".strip()
    short, streams = by_kind(records)
    bad, cut = sum(not r.ok for r in short), sum(not r.ok for r in streams)
    if verdict == "passed" and not bad and not cut:
        answered = f"all {_n(len(short), 'request')} and all {_n(len(streams), 'token stream')} were answered in full"
        return f"{subject}, and nobody noticed: {answered}."
    lost = f"{bad:,} of {_n(len(short), 'request')} and {cut:,} of {_n(len(streams), 'token stream')} were lost"
    if verdict == "passed":
        return f"{subject}: {lost}, which is within what was promised."
    if not proven:
        return f"Users noticed in the drill “{subject}”: {lost}. It is not known that its fault happened."
    if bad or cut:
        return f"{subject}, and users noticed: {lost}."
    back = "did not recover" if recovery_s is None else f"recovered after {recovery_s:.0f} s"
    loss = "no loss is on record" if any(slo.doubted and slo.id in COUNTS for slo in slos) else "no request was lost"
    return f"{subject}: {loss}, the service {back}, but not all that was promised held. {why[0] if why else ''}".strip()


def reasons_of(
    drill: Drill,
    observation: Observation,
    records: Sequence[Record],
    slos: Sequence[Slo],
    workers: Sequence[WorkerProof],
    events: Sequence[Event],
) -> list[str]:
    """Return sentences for what failed: when losses began and ended, what explains them, and what Kubernetes and Ray showed meanwhile."""
    failed = {slo.id: slo for slo in slos if not slo.passed}
    fault_at = observation.fault_at or observation.started
    sentences = []
    if drill.surge and "grew" in failed and failed["grew"].value is None:
        sentences.append(_not_grown(drill, drill.surge, observation, records))
    if failed.keys() & set(LOSSES):
        sentences += [*_losses(drill, records, fault_at), *what_clients_saw(records)]
    sentences += causes_of(drill, observation, records) if failed else []
    sentences += _meanwhile(records, events, fault_at) if failed.keys() & set(LOSSES) else []
    sentences += _touched(workers, events, fault_at) if "workers" in failed else []
    explained = {*COUNTS, "workers"}
    return sentences + [f"{s.name}: {s.actual}; promised: {s.target}." for s in failed.values() if s.id not in explained]


def _not_grown(drill: Drill, surge: Surge, observation: Observation, records: Sequence[Record]) -> str:
    """Return whether the surge asked for more workers at all."""
    since, until = observation.strikes[0].at, min(observation.strikes[0].healed_at, observation.ended)
    busy = sum(max(0.0, min(r.end, until) - max(r.sent, since)) for r in records) / max(until - since, 1.0)
    asked = f"{busy:.1f} requests were under way on average"
    if surge.carried is not None and busy <= surge.carried:
        return (
            f"The surge asked for no more workers: {asked}, and those that were there are sized for {surge.carried:g}. Give it more "
            "streams, or a greater factor."
        )
    sized = "" if surge.carried is None else f", more than the {surge.carried:g} that its workers are sized for"
    return f"The service did not grow: {asked}{sized}."


def sentence(clause: str) -> str:
    """Return the clause with a capital letter and a full stop."""
    return clause[:1].upper() + clause[1:].rstrip(".") + "."


def _n(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _losses(drill: Drill, records: Sequence[Record], fault_at: float) -> list[str]:
    lost = [r for r in records if not r.ok]
    if not lost:
        return []
    short, streams = by_kind(records)
    parts = []
    for those, what in ((short, "short request"), (streams, "stream")):
        if ends := losses(those):
            parts.append(f"{sum(not r.ok for r in those):,} of {_n(len(those), what)} ({ends})")
    first, last = min(map(lost_at, lost)) - fault_at, max(map(lost_at, lost)) - fault_at
    fault = f"the fault ({drill.title.lower()})"
    return [f"{' and '.join(parts)} were lost: the first {_when(first, fault)}, the last {_when(last, 'it')}."]


def _when(t: float, of: str) -> str:
    return f"{abs(t):.1f} s {'after' if t >= 0 else 'before'} {of}"


def _meanwhile(records: Sequence[Record], events: Sequence[Event], fault_at: float) -> list[str]:
    """Return what the cluster showed until the last loss: for each object the first trouble of each sort."""
    last = max((lost_at(r) for r in records if not r.ok), default=fault_at)
    trouble: dict[str, dict[str, float]] = {}
    for event in events:
        # The snapshot that shows the cause may be taken a little after the last loss.
        if event.kind == "trouble" and fault_at <= event.t <= last + 10 and event.what != "endpoint lost":
            trouble.setdefault(event.subject or "the service", {}).setdefault(event.what, event.t - fault_at)
    if not trouble:
        return ["Kubernetes and Ray showed nothing unusual meanwhile."]
    objects = [f"{subject}: " + ", ".join(f"{what} after {t:.0f} s" for what, t in those.items()) for subject, those in trouble.items()]
    more = f"; and {len(objects) - MOST_OBJECTS} more objects" if len(objects) > MOST_OBJECTS else ""
    return [f"Meanwhile Kubernetes and Ray showed {'; '.join(objects[:MOST_OBJECTS])}{more}."]


def _touched(workers: Sequence[WorkerProof], events: Sequence[Event], fault_at: float) -> list[str]:
    sentences = []
    for worker in workers:
        if worker.touched and worker.uid_before is not None:
            at = next(
                (e.t for e in events if e.subject == worker.pod and e.what in ("worker restarted", "worker gone") and e.t >= fault_at), None
            )
            when = f" ({_when(at - fault_at, 'the fault')})" if at is not None else ""
            first, *others = worker.touched
            sentences.append(f"Worker {worker.pod} was touched: {first}{when}{''.join(f'; {other}' for other in others)}.")
    return sentences
