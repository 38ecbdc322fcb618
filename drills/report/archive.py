"""The folder that a drill leaves behind: evidence, records, JUnit and report; and what lies above those of a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drills.evidence import Evidence
from drills.redact import clean
from drills.report import junit, render
from drills.series import SeriesEvidence
from serving.records import Record

__all__ = ["SERIES_PAGE", "Paths", "write", "write_series"]

SERIES_PAGE = "series.html"


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one drill's evidence."""

    evidence: Path
    records: Path
    junit: Path
    report: Path


def write(folder: Path, evidence: Evidence, records: Sequence[Record]) -> Paths:
    """The four files of the evidence lie in the folder, which is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = Paths(*(folder / name for name in ("evidence.json", "records.jsonl", "junit.xml", "report.html")))
    cleaned = [replace(r, detail=clean(r.detail)) for r in records]
    paths.evidence.write_text(evidence.to_json(), encoding="utf-8")
    with paths.records.open("w", encoding="utf-8") as file:
        file.writelines(record.to_line() for record in cleaned)
    paths.junit.write_text(junit.xml(evidence), encoding="utf-8")
    paths.report.write_text(render.html(evidence, cleaned), encoding="utf-8")
    return paths


def write_series(folder: Path, series: SeriesEvidence) -> None:
    """The files of the series lie in the folder; those of its faults are written by `write`, each into a folder in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "series.json").write_text(series.to_json(), encoding="utf-8")
    (folder / "junit.xml").write_text(junit.series_xml(series), encoding="utf-8")
    (folder / SERIES_PAGE).write_text(render.series_html(series), encoding="utf-8")
