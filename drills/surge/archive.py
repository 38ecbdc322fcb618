"""Reads and writes the folder of a surge: evidence, samples, records and picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from drills.evidence import BadEvidence, EvidenceFile, read_records, write_records
from drills.observed import Versions
from drills.records import Record
from drills.report.picture.surge import PictureData, draw
from drills.surge.judgement import Judgement, Plan, Seen
from drills.surge.sample import Sample, read_samples

__all__ = ["EVIDENCE", "PICTURE", "RECORDS", "SAMPLES", "Evidence", "load", "picture_data", "write"]

EVIDENCE, SAMPLES, RECORDS, PICTURE = "evidence.json", "samples.jsonl", "records.jsonl", "scaling.svg"


class Evidence(EvidenceFile):
    """Everything a reader needs to believe, or doubt, the verdict on a surge; samples and records are in files beside it.

    Moments are seconds since the epoch on the observer's clock, also those of the records.
    """

    SUBJECT = "a surge"
    format: Literal["leeward.surge/1"] = "leeward.surge/1"
    target: str
    run: str
    judgement: Judgement
    plan: Plan
    seen: Seen
    """The observation, without the samples."""
    versions: Versions = Versions()
    config: dict[str, Any] = Field(default_factory=dict)
    """The configuration of the target, without secrets."""


def picture_data(evidence: Evidence, samples: Sequence[Sample], records: Sequence[Record]) -> PictureData:
    """Return what the picture is drawn from."""
    seen, found = evidence.seen, evidence.judgement
    zero = seen.surge_at if seen.surge_at is not None else seen.started
    return PictureData(
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
    """Write the four files of a surge into the folder, which is made when missing; returns the path of the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = evidence.seen.samples
    cleaned = evidence.model_copy(update={"seen": evidence.seen.model_copy(update={"samples": ()})}).cleaned()
    (folder / EVIDENCE).write_text(cleaned.to_json(), encoding="utf-8")
    with (folder / SAMPLES).open("w", encoding="utf-8") as file:
        file.writelines(f"{sample.model_dump_json()}\n" for sample in samples)
    written = write_records(folder / RECORDS, records)
    picture = folder / PICTURE
    picture.write_text(draw(picture_data(cleaned, samples, written)), encoding="utf-8")
    return picture


def load(folder: Path) -> PictureData:
    """Return what the picture of that folder is drawn from.

    Raises:
        BadEvidence: a file is missing or is not that of a surge.
    """
    evidence = Evidence.load(folder / EVIDENCE)
    try:
        samples = read_samples(folder / SAMPLES)
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise BadEvidence(f"{folder} does not hold the samples of a surge: {error}") from error
    return picture_data(evidence, samples, read_records(folder / RECORDS))
