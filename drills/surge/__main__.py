"""Redraws the picture of a surge from its evidence.

python -m drills.surge FOLDER -o scaling.svg
python -m drills.surge FOLDER -o scaling.svg --title "On the embedded cloud" --span -20 400
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from drills.evidence import BadEvidence
from drills.report.picture.surge import draw
from drills.surge.archive import load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0 when the picture is written, 2 when the folder is not that of a surge."""
    parser = argparse.ArgumentParser(prog="python -m drills.surge", description="Draw the picture of a surge from its evidence.")
    parser.add_argument("folder", type=Path, help="folder with evidence.json, samples.jsonl and records.jsonl")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="SVG", help="where the picture goes")
    parser.add_argument("--title", default="", help="text before the counts")
    parser.add_argument("--span", type=float, nargs=2, metavar=("FROM", "TO"), help="seconds since the surge began that the picture shows")
    given = parser.parse_args(arguments)
    if given.span and given.span[0] >= given.span[1]:
        parser.error("--span: FROM must be before TO")
    try:
        data = load(given.folder)
    except BadEvidence as error:
        print(error, file=sys.stderr)
        return 2
    span = tuple(given.span) if given.span else None
    given.output.write_text(draw(data, title=given.title, span=span), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
