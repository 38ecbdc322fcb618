"""The folder that a surge leaves behind: evidence, samples, records and picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from drills.evidence import BadEvidence
from drills.observed import Versions
from drills.redact import clean
from drills.report.picture.surge import Course, draw
from drills.report.render import read_records
from drills.surge.judgement import Judgement, Plan, Seen
from drills.surge.sample import Sample
from drills.surge.sample import read as read_samples
from drills.value import Value
from serving.records import Record

__all__ = ["EVIDENCE", "PICTURE", "RECORDS", "SAMPLES", "Evidence", "course", "load", "write"]

EVIDENCE, SAMPLES, RECORDS, PICTURE = "evidence.json", "samples.jsonl", "records.jsonl", "scaling.svg"


class Evidence(Value):
    """Everything a reader needs to believe, or doubt, the verdict; samples and records lie beside it.

    Moments are seconds since the epoch on the observer's clock, those of the records too.
    """

    format: Literal["leeward.surge/1"] = "leeward.surge/1"
    target: str
    run: str
    judgement: Judgement
    plan: Plan
    seen: Seen
    """Without the samples."""
    versions: Versions = Versions()
    config: dict[str, Any] = Field(default_factory=dict)
    """How the target was configured, without secrets."""


def course(evidence: Evidence, samples: Sequence[Sample], records: Sequence[Record]) -> Course:
    """What the picture is drawn from."""
    seen, found = evidence.seen, evidence.judgement
    zero = seen.surge_at if seen.surge_at is not None else seen.started
    return Course(
        zero=zero,
        surge_at=seen.surge_at,
        fault_at=seen.head_deleted_at,
        fault=evidence.plan.drill.title.lower() if evidence.plan.drill else "",
        grown_at=found.grown_at,
        ended_at=seen.ended_at,
        workers_back_at=found.workers_back_at,
        nodes_back_at=found.nodes_back_at if evidence.plan.nodes_follow else None,
        headline=found.headline,
        samples=tuple(samples),
        records=tuple(records),
    )


def write(folder: Path, evidence: Evidence, records: Sequence[Record]) -> Path:
    """The four files of a surge lie in the folder, which is made when missing; returns the picture's place."""
    folder.mkdir(parents=True, exist_ok=True)
    samples, cleaned = evidence.seen.samples, [replace(r, detail=clean(r.detail)) for r in records]
    bare = evidence.model_copy(update={"seen": evidence.seen.model_copy(update={"samples": ()})})
    told = Evidence.model_validate(clean(bare.model_dump()))
    (folder / EVIDENCE).write_text(told.model_dump_json(indent=2) + "\n", encoding="utf-8")
    with (folder / SAMPLES).open("w", encoding="utf-8") as file:
        file.writelines(f"{sample.model_dump_json()}\n" for sample in samples)
    with (folder / RECORDS).open("w", encoding="utf-8") as file:
        file.writelines(record.to_line() for record in cleaned)
    picture = folder / PICTURE
    picture.write_text(draw(course(told, samples, cleaned)), encoding="utf-8")
    return picture


def load(folder: Path) -> Course:
    """What the picture of that folder is drawn from.

    Raises:
        BadEvidence: it is not a surge's; the message says why.
    """
    try:
        evidence = Evidence.model_validate_json((folder / EVIDENCE).read_text(encoding="utf-8"))
        samples = read_samples(folder / SAMPLES)
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise BadEvidence(f"{folder} does not hold the evidence of a surge: {error}") from error
    return course(evidence, samples, read_records(folder / RECORDS))
