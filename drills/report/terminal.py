"""The verdict in a few lines of terminal."""

from __future__ import annotations

import textwrap

from drills.evidence import Evidence
from drills.report.render import SIGNS
from drills.series import SeriesEvidence, Spread

WIDTH = 100
STANDINGS = {"kept": "✔", "missed": "✘", "in doubt": "?"}
COLOURS = {"passed": "32", "failed": "31", "aborted": "33", "void": "33"}


def summary(evidence: Evidence | SeriesEvidence, *, colour: bool = False) -> str:
    """Return the verdict, the promises (for a series the figures), and the reasons; ends with a newline."""
    sign = f"{SIGNS[evidence.verdict]} {evidence.verdict.upper()}"
    lines = [f"\033[1;{COLOURS[evidence.verdict]}m{sign}\033[0m" if colour else sign]
    lines += textwrap.wrap(evidence.headline, WIDTH, initial_indent="  ", subsequent_indent="  ")
    if isinstance(evidence, SeriesEvidence):
        lines += _figures(evidence)
    else:
        width = max((len(slo.name) for slo in evidence.slos), default=0)
        lines += [f"  {STANDINGS[slo.standing]} {slo.name:<{width}}  {slo.actual}  (promised: {slo.target})" for slo in evidence.slos]
    for reason in evidence.why:
        lines += textwrap.wrap(reason, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


def _figures(series: SeriesEvidence) -> list[str]:
    lost = series.lossy
    grows = [trend.name for trend in series.growth if trend.grows]
    return [
        f"  Faults that lost anything   {lost.lossy} of {lost.of}  (with a confidence of 95 %: below {lost.upper:.1%})",
        f"  Recovery                    {_spread(series.recovery_s)}",
        f"  Longest silence of a stream {_spread(series.longest_silence_s)}",
        f"  Grows from fault to fault   {', '.join(grows) or 'nothing, as far as was seen'}",
    ]


def _spread(spread: Spread) -> str:
    if spread.p50 is None:
        return "not measured"
    return f"p50 {spread.p50:.1f} s, p95 {spread.p95:.1f} s, worst {spread.worst:.1f} s"
