"""The folder that a drill leaves behind: evidence, records, JUnit and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drills import junit, report
from drills.evidence import Evidence
from drills.redact import clean
from serving.records import Record

__all__ = ["Paths", "write"]


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
    paths.report.write_text(report.html(evidence, cleaned), encoding="utf-8")
    return paths
