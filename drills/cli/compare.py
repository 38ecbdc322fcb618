"""`leeward compare`: two drills side by side."""

from __future__ import annotations

import argparse

from drills.cli.exits import Refusal
from drills.compare import Comparison, Incomparable, compare, read
from drills.evidence import BadEvidence


def run(options: argparse.Namespace) -> int:
    """Print both and whether the second is worse; return the exit code."""
    try:
        compared = compare(read(options.first), read(options.second))
    except (BadEvidence, Incomparable) as error:
        raise Refusal(f"they cannot be compared: {error}") from error
    print(text(compared), end="")
    return int(bool(compared.why))


def text(compared: Comparison) -> str:
    """Return a comparison for a terminal."""
    rows = [("", "first", "second"), *((f.name, f.first, f.second + ("  worse" if f.worse else "")) for f in compared.figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{name:<{widths[0]}}  {first:<{widths[1]}}  {second}".rstrip() for name, first, second in rows]
    lines += [f"worse: {reason}" for reason in compared.why] or ["the second is not worse"]
    return "\n".join(lines) + "\n"
