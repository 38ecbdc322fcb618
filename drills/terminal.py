"""The verdict in a few lines of terminal."""

from __future__ import annotations

import textwrap

from drills.archive import Paths
from drills.evidence import Evidence

__all__ = ["summary"]

WIDTH = 100
SIGNS = {"passed": "✔ PASSED", "failed": "✘ FAILED", "aborted": "■ ABORTED", "void": "? VOID"}
STANDINGS = {"kept": "✔", "missed": "✘", "in doubt": "?"}
COLOURS = {"passed": "32", "failed": "31", "aborted": "33", "void": "33"}


def summary(evidence: Evidence, paths: Paths | None = None, *, colour: bool = False) -> str:
    """The verdict, its reason, the SLOs and where the files are; ends with a newline."""
    sign = SIGNS[evidence.verdict]
    lines = [f"\033[1;{COLOURS[evidence.verdict]}m{sign}\033[0m" if colour else sign]
    lines += textwrap.wrap(evidence.headline, WIDTH, initial_indent="  ", subsequent_indent="  ")
    width = max((len(slo.name) for slo in evidence.slos), default=0)
    lines += [f"  {STANDINGS[slo.standing]} {slo.name:<{width}}  {slo.actual}  (promised: {slo.target})" for slo in evidence.slos]
    for reason in evidence.why:
        lines += textwrap.wrap(reason, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    if paths:
        lines += [f"  report    {paths.report}", f"  evidence  {paths.evidence}"]
    return "\n".join(lines) + "\n"
