"""The evidence of a drill: one JSON file that says what was done, what was seen and what follows from it.

Times in it are seconds since the fault (negative: before it), except the fields that end in `_at`, which are seconds since
the epoch on the observer's clock. The same input gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from drills.definition import Drill, Fault
from drills.judge.slos import Slo
from drills.judge.traffic import Phase, PhaseSeen, count
from drills.judge.verdict import Judgement, Verdict
from drills.judge.workers import WorkerProof
from drills.observed import EventKind, Observation, Versions, Vitals
from drills.pods import PodSpan, spans
from drills.redact import clean
from drills.value import Seconds, Value
from serving.records import Record

__all__ = ["BadEvidence", "EventSeen", "Evidence", "of"]


class BadEvidence(ValueError):
    """A file is not the evidence of a drill; the message says which and why."""


class Requests(Value):
    """The short requests."""

    sent: int
    ok: int
    failed: int


class Streams(Value):
    """The token streams, by how they ended."""

    sent: int
    finished: int
    cut: int
    hung: int
    refused: int
    wrong: int


class Percentiles(Value):
    """Nearest-rank, in ms, over the short requests that finished; None when none did."""

    p50: float | None
    p99: float | None


class EventSeen(Value):
    """An event on the time line of the report."""

    t: Seconds
    what: str
    kind: EventKind = "note"
    subject: str = ""
    detail: str = ""


class Window(Value):
    """The time that the picture shows, seconds since the fault."""

    start: Seconds
    end: Seconds
    recovered: Seconds | None


class Evidence(Value):
    """Everything a reader needs to believe, or doubt, the verdict."""

    format: Literal["leeward.evidence/1"] = "leeward.evidence/1"
    verdict: Verdict
    headline: str
    why: tuple[str, ...]
    drill: str
    title: str
    target: str
    run: str
    number: int = 1
    """Which fault of its series it is."""
    of: int = 1
    """How many faults the series was to have."""
    started: str
    """ISO 8601, UTC."""
    fault_at: Seconds | None
    recovery_s: float | None
    fault: Fault
    slos: tuple[Slo, ...]
    requests: Requests
    streams: Streams
    latency_ms: dict[Phase, Percentiles]
    workers: tuple[WorkerProof, ...]
    vitals: Vitals = Vitals()
    gcs_storage: bool | None
    events: tuple[EventSeen, ...]
    versions: Versions
    phases: tuple[PhaseSeen, ...]
    window: Window
    pods: tuple[PodSpan, ...]
    clock_offset_s: Seconds
    """The load's clock minus the observer's: subtract it from the times in records.jsonl."""
    definition: Drill
    config: dict[str, Any] = Field(default_factory=dict)
    """How the target was configured, without secrets."""

    @property
    def zero_at(self) -> float:
        """The epoch second that is 0 on the time axis: the fault, or the beginning when there was none."""
        return self.fault_at if self.fault_at is not None else datetime.fromisoformat(self.started).timestamp()

    def to_json(self) -> str:
        """The evidence as JSON, with a final newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """The evidence in that file.

        Raises:
            BadEvidence: it is not there or not the evidence of a drill; the message says why.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise BadEvidence(f"{path} is not the evidence of a drill: {error}") from error


def of(
    drill: Drill,
    observation: Observation,
    records: Iterable[Record],
    judgement: Judgement,
    *,
    target: str,
    run: str = "",
    number: int = 1,
    total: int = 1,
    config: dict[str, Any] | None = None,
) -> Evidence:
    """The evidence of a judged drill. `target`: the name people know the cluster by; `run`: the name of the run; `number`, `total`: which
    fault of how many."""
    those = list(records)
    zero = observation.fault_at if observation.fault_at is not None else _whole(observation.started)
    last = max((r.end - observation.clock_offset_s for r in those), default=observation.ended)
    recovered = judgement.recovered_at
    evidence = Evidence(
        verdict=judgement.verdict,
        headline=judgement.headline,
        why=judgement.why,
        drill=drill.name,
        title=drill.title,
        target=target,
        run=run,
        number=number,
        of=total,
        started=datetime.fromtimestamp(_whole(observation.started), UTC).isoformat(),
        fault_at=observation.fault_at,
        recovery_s=_round(judgement.recovery_s),
        fault=drill.fault,
        slos=judgement.slos,
        requests=_requests(those),
        streams=_streams(those),
        latency_ms={p.name: Percentiles(p50=_round(p.p50_ms), p99=_round(p.p99_ms)) for p in judgement.phases},
        workers=judgement.workers,
        vitals=observation.vitals,
        gcs_storage=observation.before.gcs_storage if observation.before else None,
        events=_events(judgement, zero),
        versions=observation.versions,
        phases=judgement.phases,
        window=Window(
            start=round(min([r.due - observation.clock_offset_s for r in those] or [observation.started]) - zero, 3),
            end=round(max(last, observation.ended) - zero, 3),
            recovered=None if recovered is None else round(recovered - zero, 3),
        ),
        pods=tuple(_rounded(span) for span in spans(observation.snapshots, zero)),
        clock_offset_s=observation.clock_offset_s,
        definition=drill,
        config=config or {},
    )
    # Everything is cleaned, not only the configuration: an event quotes what some tool has printed.
    return Evidence.model_validate(clean(evidence.model_dump()))


def _requests(records: Sequence[Record]) -> Requests:
    short = [r for r in records if r.kind == "short"]
    ok = sum(r.ok for r in short)
    return Requests(sent=len(short), ok=ok, failed=len(short) - ok)


def _streams(records: Sequence[Record]) -> Streams:
    streams = [r for r in records if r.kind == "stream"]
    return Streams(sent=len(streams), **count(streams))


def _events(judgement: Judgement, zero: float) -> tuple[EventSeen, ...]:
    return tuple(EventSeen(t=round(e.t - zero, 3), what=e.what, kind=e.kind, subject=e.subject, detail=e.detail) for e in judgement.events)


def _rounded(span: PodSpan) -> PodSpan:
    return span.model_copy(update={"since": round(span.since, 3), "until": round(span.until, 3)})


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _whole(t: float) -> float:
    """Whole seconds: `started` is written to the second, and 0 on the axis must be the same moment when read again."""
    return float(int(t))
