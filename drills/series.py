"""The evidence of a series: the same fault repeated under one load, what its faults have in common, and whether anything grows.

It is made from the evidence of each fault, which is kept beside it in a folder of its own. The same input gives the same bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from statistics import median
from typing import Any, Literal

from pydantic import Field

from drills.definition import Drill, Series
from drills.evidence import Evidence, EvidenceFile
from drills.faults import DeletePod, Grace
from drills.judge.traffic import by_kind, longest_gap_s, nearest_rank
from drills.judge.verdict import Verdict
from drills.observed import FootprintOrVitals, LoadSeen, Versions
from drills.records import Record
from drills.value import Seconds, Value, rounded

CONFIDENCE = 0.95
"""Confidence that the share of faults with losses is below the upper bound."""
BY_CHANCE = 0.01
"""A figure counts as growing when so steady a rise has a lower probability than this in random order."""
FEWEST = 8
"""Least number of values for which growth is judged: three values rise by chance in one series of six."""
MOST_NAMED = 5
"""Number of faults that the reasons name; the table lists them all."""


class Lost(Value):
    """Number of requests of one kind that were sent, and of those that were not answered in full."""

    sent: int
    lost: int


class Row(Value):
    """One fault of the series, as the table shows it."""

    number: int
    grace: Grace
    verdict: Verdict
    headline: str
    why: tuple[str, ...]
    missed: tuple[str, ...]
    """Names of the SLOs that were missed."""
    folder: str
    """Name of the folder with its own evidence, beside this file."""
    fault_at: Seconds | None
    recovery_s: float | None
    longest_silence_s: float | None
    """Longest silence of one of its streams."""
    requests: Lost
    """Short requests that belong to this fault alone, so that those of all faults can be added up."""
    streams: Lost
    """Token streams that belong to this fault alone."""
    p99_before_ms: float | None
    p99_during_ms: float | None
    workers_touched: int
    footprint: FootprintOrVitals

    @property
    def lossy(self) -> bool:
        """Whether any request was lost."""
        return bool(self.requests.lost or self.streams.lost)


class Bound(Value):
    """Number of faults with losses, and the upper bound of their share with a confidence of 95 %."""

    lossy: int
    of: int
    upper: float
    """One-sided bound by Clopper and Pearson; 1 when there were no faults."""


class Spread(Value):
    """Nearest-rank percentiles over the faults; None when nothing was measured."""

    p50: float | None
    p95: float | None
    worst: float | None


class Trend(Value):
    """How a figure changed from fault to fault."""

    name: str
    unit: str
    values: int
    """Number of faults for which it is known."""
    first: float | None
    last: float | None
    slope: float | None
    """Rise from one fault to the next: the median over all pairs of faults (Theil–Sen). None for fewer than two values."""
    chance: float | None
    """Probability of so steady a rise in random order (Mann–Kendall, one-sided). None for too few values."""
    grows: bool | None
    """Whether it rises, and more steadily than by chance; None for too few values."""


class Early(Value):
    """Why a series ended before its last fault."""

    reason: str
    by: Literal["service", "measurement", "request"]
    """service: it did not return to the steady state that the next fault needs. measurement: it could not be measured any more.
    request: the series was asked to stop, and is judged by the faults that were done."""

    @property
    def incomplete(self) -> bool:
        """Whether the series lacks faults without having been asked to stop."""
        return self.by != "request"


class SeriesEvidence(EvidenceFile):
    """Everything about a series that is not in the evidence of its faults."""

    SUBJECT = "a series"

    format: Literal["leeward.series/1"] = "leeward.series/1"
    verdict: Verdict
    headline: str
    why: tuple[str, ...]
    drill: str
    title: str
    target: str
    run: str
    started: str
    """When the series began: ISO 8601, UTC."""
    plan: Series
    done: int
    """Number of faults that were done; fewer than planned when the series ended early."""
    early: Early | None
    requests: Lost
    streams: Lost
    lossy: Bound
    recovery_s: Spread
    longest_silence_s: Spread
    growth: tuple[Trend, ...]
    faults: tuple[Row, ...]
    versions: Versions
    definition: Drill
    config: dict[str, Any] = Field(default_factory=dict)


def make_row(evidence: Evidence, own: Sequence[Record], folder: str) -> Row:
    """Return the row of a fault; `own` are the requests that belong to it alone."""
    short, streams = by_kind(own)
    return Row(
        number=evidence.number,
        grace=next((fault.grace for fault in evidence.faults if isinstance(fault, DeletePod)), "default"),
        verdict=evidence.verdict,
        headline=evidence.headline,
        why=evidence.why,
        missed=tuple(slo.name for slo in evidence.slos if slo.standing == "missed"),
        folder=folder,
        fault_at=evidence.fault_at,
        recovery_s=evidence.recovery_s,
        longest_silence_s=rounded(max(map(longest_gap_s, streams), default=None)),
        requests=Lost(sent=len(short), lost=sum(not r.ok for r in short)),
        streams=Lost(sent=len(streams), lost=sum(not r.ok for r in streams)),
        p99_before_ms=evidence.latency_ms["before"].p99,
        p99_during_ms=evidence.latency_ms["during"].p99,
        workers_touched=sum(bool(w.touched) for w in evidence.workers if w.uid_before),
        footprint=evidence.footprint,
    )


def make_series(
    first: Evidence, rows: Sequence[Row], drill: Drill, plan: Series, load: LoadSeen | None, early: Early | None
) -> SeriesEvidence:
    """Return the evidence of a series.

    Args:
        first: Evidence of its first fault, from which the series takes target, run, versions and configuration.
        drill: The drill of its first fault.
        load: What the load reported at its end; None when it could not be asked.
    """
    done = [row for row in rows if row.fault_at is not None]
    requests, streams = _sum([row.requests for row in rows]), _sum([row.streams for row in rows])
    recovery = _spread(row.recovery_s for row in done)
    doubts = _doubts(load, requests.sent + streams.sent)
    verdict = _verdict(rows, done, early, doubts)
    asked = early is not None and not early.incomplete
    return SeriesEvidence(
        verdict=verdict,
        headline=_headline(verdict, drill, plan, rows, done, requests, streams, recovery)
        + (f" It ended after {len(done)} of {plan.repeat} faults, as it was to stop at the first loss." if asked else ""),
        why=tuple(_why(rows, drill, plan, len(done), early, doubts)) if verdict != "passed" else (),
        drill=drill.name,
        title=drill.title,
        target=first.target,
        run=first.run,
        started=first.started,
        plan=plan,
        done=len(done),
        early=early,
        requests=requests,
        streams=streams,
        lossy=bound(sum(row.lossy for row in done), len(done)),
        recovery_s=recovery,
        longest_silence_s=_spread(row.longest_silence_s for row in done),
        growth=tuple(trend(name, unit, [(row.number, ask(row)) for row in done]) for name, unit, ask in GROWTH),
        faults=tuple(rows),
        versions=first.versions,
        definition=drill,
        config=first.config,
    ).cleaned()


GROWTH: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
    ("Recovery", "s", lambda row: row.recovery_s),
    ("Memory of the head", "MiB", lambda row: row.footprint.head_memory_bytes and row.footprint.head_memory_bytes / 2**20),
    ("The cluster's entries in Redis", "", lambda row: row.footprint.redis_entries),
    ("Dead actors in the GCS", "", lambda row: row.footprint.dead_actors),
)
"""The figures that are checked for growth: name, unit and value of a row."""


def bound(lossy: int, of: int) -> Bound:
    """Return the upper bound of the share of faults with losses, with a confidence of 95 %: with a higher share, so few of so many would
    be seen in one series of twenty, or more rarely."""
    low, high = 0.0, 1.0
    while lossy < of and high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(lossy, of, middle) > 1 - CONFIDENCE else (low, middle)
    return Bound(lossy=lossy, of=of, upper=round(high, 6))


def _at_most(k: int, n: int, p: float) -> float:
    """Return the probability of k or fewer hits in n tries with the hit probability p, 0 < p < 1."""
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p) for i in range(k + 1)
    )
    return sum(map(math.exp, logs))


def trend(name: str, unit: str, values: Sequence[tuple[int, float | None]]) -> Trend:
    """Return how a figure changed from fault to fault. It uses ranks and medians, so one odd value in a series is no growth.

    Args:
        values: Number of the fault and its value, in order.
    """
    known = [(number, value) for number, value in values if value is not None]
    slopes = [(later - earlier) / (j - i) for (i, earlier), (j, later) in combinations(known, 2)]
    slope = median(slopes) if slopes else None
    chance = _chance([value for _, value in known]) if len(known) >= FEWEST else None
    return Trend(
        name=name,
        unit=unit,
        values=len(known),
        first=rounded(known[0][1] if known else None),
        last=rounded(known[-1][1] if known else None),
        slope=rounded(slope),
        chance=None if chance is None else round(chance, 6),
        grows=None if chance is None or slope is None else chance < BY_CHANCE and slope > 0,
    )


def _chance(values: Sequence[float]) -> float:
    """Return the probability that values in random order rise as steadily as these: Mann–Kendall, normal approximation with ties."""
    n = len(values)
    rises = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    tied = sum(t * (t - 1) * (2 * t + 5) for t in Counter(values).values())
    deviation = math.sqrt((n * (n - 1) * (2 * n + 5) - tied) / 18)
    if deviation == 0:
        return 1.0
    return 0.5 * math.erfc((rises - (rises > 0) + (rises < 0)) / deviation / math.sqrt(2))


def _verdict(rows: Sequence[Row], done: Sequence[Row], early: Early | None, doubts: Sequence[str]) -> Verdict:
    if not done:
        return rows[0].verdict
    if any(row.verdict == "failed" for row in rows) or (early and early.by == "service"):
        return "failed"
    return "void" if (early and early.incomplete) or doubts or any(row.verdict != "passed" for row in rows) else "passed"


def _headline(
    verdict: Verdict, drill: Drill, plan: Series, rows: Sequence[Row], done: Sequence[Row], requests: Lost, streams: Lost, recovery: Spread
) -> str:
    """Return the verdict in one sentence that needs no explanation."""
    if not done:
        return rows[0].headline
    times = f"{len(done)} times" if len(done) == plan.repeat else f"{len(done)} of {plan.repeat} times"
    subject, lossy = f"{drill.title} {times}", [row for row in done if row.lossy]
    losses = f"{requests.lost:,} of {requests.sent:,} requests and {streams.lost:,} of {streams.sent:,} token streams were lost"
    speed = "" if recovery.p50 is None else f"; recovery p50 {recovery.p50:.0f} s, worst {recovery.worst:.0f} s"
    if verdict == "void":
        unclear = [row for row in rows if row.verdict != "passed"]
        whole = "its records cannot be trusted" if len(done) == plan.repeat else "the series is not complete"
        what = f"the measurement of {_numbers(unclear)} cannot be trusted" if unclear else whole
        return f"{subject}: {losses if lossy else 'no loss is on record'}, but {what}, so the series has no verdict."
    if verdict == "passed":
        answered = f"all {requests.sent:,} requests and all {streams.sent:,} token streams were answered in full"
        result = f"{losses}, which is within what was promised" if lossy else f"and nobody noticed: {answered}"
        return f"{subject}{': ' if lossy else ', '}{result}{speed}."
    if lossy:
        how_often = {1: "once", 2: "twice"}.get(len(lossy), f"{len(lossy)} times")
        return f"{subject}, and users noticed {how_often}, at {_numbers(lossy)}: {losses}{speed}."
    bad = [row for row in rows if row.verdict == "failed"]
    reason = f"not all that was promised held at {_numbers(bad)}" if bad else "the service did not come back to its steady state"
    return f"{subject}: no loss is on record, but {reason}{speed}."


def _why(rows: Sequence[Row], drill: Drill, plan: Series, done: int, early: Early | None, doubts: Sequence[str]) -> Iterable[str]:
    """Yield why the verdict is not "passed", most important first."""
    graces = drill.graces
    for verdict in ("failed", "void", "aborted"):
        those = [row for row in rows if row.verdict == verdict]
        for row in those[:MOST_NAMED]:
            how = ", ".join(filter(None, (graces.get(row.grace), verdict)))
            yield f"Fault {row.number} ({how}): {row.why[0] if row.why else row.headline}"
        if len(those) > MOST_NAMED:
            yield f"{len(those) - MOST_NAMED} more faults {verdict}: {_numbers(those[MOST_NAMED:])}."
        if verdict == "failed" and those:
            # What explains one of them and all others is most likely the cause.
            yield from (reason for reason in those[0].why[1:] if all(reason in row.why for row in those))
        if verdict == "failed" and early:
            yield f"The series ended after {done} of {plan.repeat} faults: {early.reason}."
    yield from doubts


def _doubts(load: LoadSeen | None, records: int) -> list[str]:
    """Return why the records of the series cannot be trusted. Only over the whole series is it known how many requests were sent."""
    if load is None or load.sent == records:
        return []
    return [
        f"{load.sent - records} of {load.sent} records are missing, and it is not known at which fault."
        if records < load.sent
        else f"There are {records} records, and {load.sent} requests were sent: some are there twice, or another load's."
    ]


def _numbers(rows: Sequence[Row]) -> str:
    """Return the numbers of the faults, in words."""
    first = ", ".join(str(row.number) for row in rows[:10])
    return f"fault{'' if len(rows) == 1 else 's'} {first}" + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")


def _sum(those: Sequence[Lost]) -> Lost:
    return Lost(sent=sum(one.sent for one in those), lost=sum(one.lost for one in those))


def _spread(values: Iterable[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    return Spread(p50=nearest_rank(known, 50), p95=nearest_rank(known, 95), worst=max(known, default=None))
