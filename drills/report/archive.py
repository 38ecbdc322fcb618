"""Writes the folder of a drill: evidence, records, JUnit and report; and the files of a series above those of its faults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drills.evidence import Evidence, write_records
from drills.records import Record
from drills.report import junit, render
from drills.series import SeriesEvidence

SERIES_PAGE = "series.html"


def write(folder: Path, evidence: Evidence, records: Sequence[Record]) -> None:
    """Write the four files of a drill into the folder, which is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evidence.json").write_text(evidence.to_json(), encoding="utf-8")
    cleaned = write_records(folder / "records.jsonl", records)
    (folder / "junit.xml").write_text(junit.xml(evidence), encoding="utf-8")
    (folder / "report.html").write_text(render.html(evidence, cleaned), encoding="utf-8")


def write_series(folder: Path, series: SeriesEvidence) -> None:
    """Write the files of a series into the folder. `write` writes those of its faults, each into a folder in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "series.json").write_text(series.to_json(), encoding="utf-8")
    (folder / "junit.xml").write_text(junit.series_xml(series), encoding="utf-8")
    (folder / SERIES_PAGE).write_text(render.series_html(series), encoding="utf-8")
