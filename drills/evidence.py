"""The evidence of a drill: one JSON file with what was done, what was observed and the verdict.

Times in it are seconds since the fault (negative: before it), except the fields that end in `_at`, which are seconds since
the epoch on the observer's clock. The same input gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from drills.definition import Drill
from drills.faults import AnyFault, listed
from drills.judge.slos import Slo
from drills.judge.traffic import Phase, PhaseSeen, by_kind, count
from drills.judge.verdict import Judgement, Verdict
from drills.judge.workers import WorkerProof
from drills.load.template import Check
from drills.observed import Event, Footprint, FootprintOrVitals, Observation, Versions
from drills.pods import PodSpan, spans
from drills.records import Kind, Record, read_lines
from drills.redact import clean
from drills.strikes import Strike
from drills.value import Seconds, Value, rounded


class BadEvidence(ValueError):
    """A file is not the evidence that it should be; the message names the file and the reason."""


class EvidenceFile(Value):
    """Evidence that is kept as one JSON file."""

    SUBJECT: ClassVar[str]
    """The subject of the evidence in messages: "a drill"."""

    def to_json(self) -> str:
        """Return the evidence as JSON, with a final newline."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the evidence in that file.

        Raises:
            BadEvidence: the file is not there, or is not the evidence of such a subject.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise BadEvidence(f"{path} is not the evidence of {cls.SUBJECT}: {error}") from error

    def cleaned(self) -> Self:
        """Return the same evidence without secrets. All of it is cleaned, as events and reasons quote what some tool has printed."""
        return type(self).model_validate(clean(self.model_dump()))


def read_records(path: Path) -> list[Record]:
    """Return the records in that file.

    Raises:
        BadEvidence: the file is not there, or a line of it is not a record.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return list(read_lines(file))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadEvidence(f"{path} does not hold the records of a drill: {error}") from error


def write_records(path: Path, records: Iterable[Record]) -> list[Record]:
    """Write the records to that file, one a line, without secrets; returns them as written."""
    cleaned = [replace(r, detail=clean(r.detail)) for r in records]
    with path.open("w", encoding="utf-8") as file:
        file.writelines(record.to_line() for record in cleaned)
    return cleaned


class Requests(Value):
    """Counts of the short requests."""

    sent: int
    ok: int
    failed: int


class Streams(Value):
    """Counts of the token streams, by how they ended."""

    sent: int
    finished: int
    cut: int
    hung: int
    refused: int
    wrong: int


class Percentiles(Value):
    """Nearest-rank percentiles in ms over the short requests that finished; None when none did."""

    p50: float | None
    p99: float | None


class Window(Value):
    """The time that the picture shows, in seconds since the fault."""

    start: Seconds
    end: Seconds
    recovered: Seconds | None


class SizeSeen(Value):
    """How large a service was in a surge, from one moment until the next such value."""

    t: Seconds
    sets: int | None
    """Running replicas of the deployment that has fewest; None when Ray could not be asked."""
    ready: int
    """Workers that were ready."""
    workers: int
    nodes: int
    """The model's nodes that were Ready."""
    launched: int
    """The model's nodes that were Ready, being launched or being ended."""


class Evidence(EvidenceFile):
    """Everything a reader needs to believe, or doubt, the verdict on a drill."""

    SUBJECT = "a drill"
    format: Literal["leeward.evidence/2", "leeward.evidence/1"] = "leeward.evidence/2"
    """The first one has one `fault`, and no strikes."""
    verdict: Verdict
    headline: str
    why: tuple[str, ...]
    drill: str
    title: str
    target: str
    run: str
    number: int = 1
    """Number of the fault in its series; the first is 1."""
    of: int = 1
    """Number of faults that the series was to have."""
    started: str
    """When the drill began: ISO 8601, UTC."""
    fault_at: Seconds | None
    recovery_s: float | None
    faults: tuple[AnyFault, ...]
    strikes: tuple[Strike, ...] = ()
    """What was done, in order, with the very things that were struck."""
    slos: tuple[Slo, ...]
    requests: Requests
    streams: Streams
    latency_ms: dict[Phase, Percentiles]
    workers: tuple[WorkerProof, ...]
    footprint: FootprintOrVitals = Footprint()
    gcs_storage: bool | None
    events: tuple[Event, ...]
    versions: Versions
    phases: tuple[PhaseSeen, ...]
    window: Window
    pods: tuple[PodSpan, ...]
    sizes: tuple[SizeSeen, ...] = ()
    """How the service grew and shrank; empty unless the drill is a surge."""
    clock_offset_s: Seconds
    """The load's clock minus the observer's: subtract it from the times in records.jsonl."""
    checks: dict[Kind, Check] = Field(default_factory=dict)
    """How answers were compared with a healthy server's, by kind of request; empty where the load could not be asked."""
    definition: Drill
    config: dict[str, Any] = Field(default_factory=dict)
    """The configuration of the target, without secrets."""

    @model_validator(mode="before")
    @classmethod
    def _one_fault(cls, found: Any) -> Any:
        return listed(found)

    @property
    def zero_at(self) -> float:
        """The moment that is 0 on the time axis, in seconds since the epoch: the fault, or the beginning when there was no fault."""
        return self.fault_at if self.fault_at is not None else datetime.fromisoformat(self.started).timestamp()


def make_evidence(
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
    """Return the evidence of a judged drill.

    Args:
        target: Name of the target block.
        run: Name of the flow run.
        number: Number of the fault in its series; the first is 1.
        total: Number of faults that the series was to have.
        config: The configuration of the target.
    """
    those = list(records)
    short, streams = by_kind(those)
    ok = sum(r.ok for r in short)
    zero = observation.fault_at if observation.fault_at is not None else _whole(observation.started)
    last = max((r.end - observation.clock_offset_s for r in those), default=observation.ended)
    recovered = judgement.recovered_at
    return Evidence(
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
        recovery_s=rounded(judgement.recovery_s),
        faults=drill.faults,
        strikes=observation.strikes,
        slos=judgement.slos,
        requests=Requests(sent=len(short), ok=ok, failed=len(short) - ok),
        streams=Streams(sent=len(streams), **count(streams)),
        latency_ms={p.name: Percentiles(p50=rounded(p.p50_ms), p99=rounded(p.p99_ms)) for p in judgement.phases},
        workers=judgement.workers,
        footprint=observation.footprint,
        gcs_storage=observation.before.gcs_storage if observation.before else None,
        events=tuple(event.model_copy(update={"t": round(event.t - zero, 3)}) for event in judgement.events),
        versions=observation.versions,
        phases=judgement.phases,
        window=Window(
            start=round(min([r.due - observation.clock_offset_s for r in those] or [observation.started]) - zero, 3),
            end=round(max(last, observation.ended) - zero, 3),
            recovered=None if recovered is None else round(recovered - zero, 3),
        ),
        pods=tuple(
            span.model_copy(update={"since": round(span.since, 3), "until": round(span.until, 3)})
            for span in spans(observation.snapshots, zero)
        ),
        sizes=tuple(_sizes(observation, zero)) if drill.surge else (),
        clock_offset_s=observation.clock_offset_s,
        checks=observation.load.checks if observation.load else {},
        definition=drill,
        config=config or {},
    ).cleaned()


def _sizes(observation: Observation, zero: float) -> Iterable[SizeSeen]:
    """Yield the size whenever it changed, and at the end."""
    sizes = [
        SizeSeen(
            t=round(s.t - zero, 3),
            sets=s.sets,
            ready=sum(w.ready for w in s.workers),
            workers=len(s.workers),
            nodes=len(s.nodes or ()),
            launched=s.launched,
        )
        for s in observation.snapshots
    ]
    for earlier, size in pairwise([None, *sizes]):
        if size and (size is sizes[-1] or earlier is None or earlier.model_copy(update={"t": size.t}) != size):
            yield size


def _whole(t: float) -> float:
    """Return whole seconds: `started` is written to the second, and 0 on the axis must be the same moment when it is read again."""
    return float(int(t))
