"""Prints the short verdict of one drill: `python -m scripts.summary evidence.json`. Needs the locked environment."""

from __future__ import annotations

import sys
from pathlib import Path

from drills.evidence import Evidence
from drills.terminal import summary


def main(path: Path) -> int:
    """The summary is on standard output; exit code 0 only when the verdict is "passed"."""
    evidence = Evidence.load(path)
    print(summary(evidence, colour=sys.stdout.isatty()), end="")
    return 0 if evidence.verdict == "passed" else 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
