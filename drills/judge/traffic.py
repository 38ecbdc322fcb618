"""The requests of a drill, by phase, and a summary of each phase.

A drill has three phases, and every request belongs to exactly one:

    before  it had ended when the fault was injected
    after   it was due when the service had recovered, or later
    during  all others: alive at some moment between fault and recovery, or between fault and end when there was no recovery

So a stream that was under way at the fault is *during*, although it was due before: such streams are what the fault endangers.
Percentiles are nearest-rank over the requests that finished. One that failed has no latency (a refusal takes a
millisecond and would flatter); it is counted as failed instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, get_args

from drills.records import Outcome, Record
from drills.value import Value

Phase = Literal["before", "during", "after"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class PhaseSeen(Value):
    """One phase as its users experienced it. Latencies are in ms, None when nothing finished."""

    name: Phase
    requests: int
    """Number of short requests."""
    failed: int
    """Number of short requests that failed."""
    streams: int
    outcomes: dict[Outcome, int]
    """Number of streams by how they ended."""
    p50_ms: float | None
    """Median latency of short requests, from due to the end."""
    p99_ms: float | None
    first_token_p50_ms: float | None
    """Median time of streams from due to the first token."""
    first_token_p99_ms: float | None
    longest_gap_s: float | None
    """Longest silence in one stream, in seconds."""


def on_observers_clock(records: Iterable[Record], offset_s: float) -> list[Record]:
    """Return the records with all times moved from the load's clock to the observer's, in order of due."""
    return sorted((_moved(r, -offset_s) for r in records), key=lambda r: (r.due, r.id))


def _moved(r: Record, by: float) -> Record:
    first = None if r.first_token is None else r.first_token + by
    tokens = tuple(t + by for t in r.token_times)
    return replace(r, due=r.due + by, sent=r.sent + by, first_token=first, token_times=tokens, end=r.end + by)


def phase_of(record: Record, fault_at: float | None, recovered_at: float | None) -> Phase:
    """Return the phase that the request belongs to."""
    if fault_at is None or record.end < fault_at:
        return "before"
    return "after" if recovered_at is not None and record.due >= recovered_at else "during"


def phase_seen(name: Phase, records: Sequence[Record]) -> PhaseSeen:
    """Summarise the records of one phase."""
    short, streams = by_kind(records)
    latencies = [r.latency_s * 1000 for r in short if r.ok]
    first = [(r.first_token - r.due) * 1000 for r in streams if r.ok and r.first_token is not None]
    return PhaseSeen(
        name=name,
        requests=len(short),
        failed=sum(not r.ok for r in short),
        streams=len(streams),
        outcomes=count(streams),
        p50_ms=nearest_rank(latencies, 50),
        p99_ms=nearest_rank(latencies, 99),
        first_token_p50_ms=nearest_rank(first, 50),
        first_token_p99_ms=nearest_rank(first, 99),
        longest_gap_s=max((longest_gap_s(r) for r in streams), default=None),
    )


def by_kind(records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """Return the short requests and the streams, each in the given order."""
    found: dict[str, list[Record]] = {"short": [], "stream": []}
    for record in records:
        found[record.kind].append(record)
    return found["short"], found["stream"]


def losses(records: Iterable[Record]) -> str:
    """Return how many requests were lost in which way: "3 cut, 1 hung"; empty when none was lost."""
    return ", ".join(f"{n:,} {how}" for how, n in count(records).items() if n and how != "finished")


def count(records: Iterable[Record]) -> dict[Outcome, int]:
    """Return how many requests ended in which way, with every outcome as a key."""
    outcomes: dict[Outcome, int] = {name: 0 for name in get_args(Outcome)}
    for record in records:
        outcomes[record.outcome] += 1
    return outcomes


def nearest_rank(values: Iterable[float], percent: float) -> float | None:
    """Return the smallest value that at least `percent` % of the values do not exceed; None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def longest_gap_s(record: Record) -> float:
    """Return the longest silence of a stream: before its first token, between two or, where it did not finish, up to its end."""
    moments = (record.due, *record.token_times, *(() if record.ok else (record.end,)))
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


def lost_at(record: Record) -> float:
    """Return when a failed request was lost: a cut one when it was cut, a hung one at its last token, any other when it was due."""
    if record.outcome == "cut":
        return record.end
    if record.outcome == "hung" and record.token_times:
        return record.token_times[-1]
    return record.due


def phases_seen(records: Iterable[Record], fault_at: float | None, recovered_at: float | None) -> dict[Phase, PhaseSeen]:
    """Summarise each phase, in order; every record is in exactly one."""
    phases: dict[Phase, list[Record]] = {name: [] for name in PHASES}
    for record in records:
        phases[phase_of(record, fault_at, recovered_at)].append(record)
    return {name: phase_seen(name, those) for name, those in phases.items()}
