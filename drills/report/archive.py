"""Writes the folder of a drill: evidence, records, JUnit and report; and the files of a series above those of its faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drills.evidence import Evidence, write_records
from drills.records import Record
from drills.report import junit, render
from drills.series import SeriesEvidence

SERIES_PAGE = "series.html"


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one drill's evidence."""

    evidence: Path
    records: Path
    junit: Path
    report: Path


def write(folder: Path, evidence: Evidence, records: Sequence[Record]) -> Paths:
    """Write the four files of a drill into the folder, which is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = Paths(*(folder / name for name in ("evidence.json", "records.jsonl", "junit.xml", "report.html")))
    paths.evidence.write_text(evidence.to_json(), encoding="utf-8")
    cleaned = write_records(paths.records, records)
    paths.junit.write_text(junit.xml(evidence), encoding="utf-8")
    paths.report.write_text(render.html(evidence, cleaned), encoding="utf-8")
    return paths


def write_series(folder: Path, series: SeriesEvidence) -> None:
    """Write the files of a series into the folder. `write` writes those of its faults, each into a folder in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "series.json").write_text(series.to_json(), encoding="utf-8")
    (folder / "junit.xml").write_text(junit.series_xml(series), encoding="utf-8")
    (folder / SERIES_PAGE).write_text(render.series_html(series), encoding="utf-8")
