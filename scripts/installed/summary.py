"""Prints the short verdict of a drill or of a series: `python -m scripts.installed.summary evidence.json [--colour]`."""

from __future__ import annotations

import sys
from pathlib import Path

from drills.evidence import Evidence
from drills.report.terminal import summary
from drills.series import SeriesEvidence


def main(path: Path, colour: bool) -> int:
    """Print the summary; return 0 only when the verdict is "passed"."""
    found = SeriesEvidence.load(path) if path.name == "series.json" else Evidence.load(path)
    print(summary(found, colour=colour), end="")
    return 0 if found.verdict == "passed" else 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), "--colour" in sys.argv[2:]))
