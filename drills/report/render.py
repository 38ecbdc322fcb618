"""The report of a drill or of a series: one self-contained HTML file, with the verdict first, then one picture, then the proofs.

It has no script, loads no font or anything else, follows the light or dark preference and can be printed.

    python -m drills.report evidence.json records.jsonl -o report.html
    python -m drills.report series.json -o series.html
    python -m drills.report evidence.json records.jsonl --picture picture.svg --title "With GCS fault tolerance" --span -20 60
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from drills.evidence import BadEvidence, Evidence, read_records
from drills.records import Record
from drills.report.picture.drill import PARTS, draw
from drills.report.picture.marks import LEGEND, mark
from drills.report.picture.series import recoveries
from drills.report.picture.style import DARK, LIGHT, RULES
from drills.series import SeriesEvidence

SIGNS = {"passed": "✔", "failed": "✘", "aborted": "■", "void": "?"}
KEY = '<svg class="lw key" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{}</svg>'
"""A mark in the legend."""
LONGEST = 400
"""Number of events that are listed; the rest is in the evidence. A pod in a crash loop reports thousands."""


def html(evidence: Evidence, records: Iterable[Record]) -> str:
    """Return the report of a drill."""
    return _page(
        "report.html.j2",
        e=evidence,
        sign=SIGNS[evidence.verdict],
        facts=_facts(evidence),
        # Safe as they are: drills.report.picture escapes every text.
        picture=Markup(draw(evidence, records)),
        legend=[(Markup(KEY.format(mark(outcome, 8, 8, 4.2))), words) for outcome, words in LEGEND.items()],
        events=evidence.events[:LONGEST],
        more_events=max(0, len(evidence.events) - LONGEST),
    )


def series_html(series: SeriesEvidence) -> str:
    """Return the report of a series: a row for each fault, the distribution of recovery times, and whether anything grows."""
    return _page("series.html.j2", s=series, sign=SIGNS[series.verdict], facts=_series_facts(series), picture=Markup(recoveries(series)))


def _page(template: str, **values: Any) -> str:
    """Return a page in the style that all reports have."""
    return _environment().get_template(template).render(light=LIGHT, dark=DARK, rules=Markup(RULES), **values)


@cache  # a series renders a page for each of its faults, and compiling a template takes longer than to render it
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"ms": _ms, "seconds": _seconds, "signed": _signed, "short": _short, "share": _share, "figure": _figure}
    return environment


def _facts(evidence: Evidence) -> list[tuple[str, str, bool]]:
    """Return the most important figures: a number, what it counts, and whether it is as promised. A doubt is not shown as missed."""
    r, s = evidence.requests, evidence.streams
    passed = {slo.id: slo.standing != "missed" for slo in evidence.slos}
    touched = sum(bool(w.touched) for w in evidence.workers if w.uid_before)
    there = sum(w.uid_before is not None for w in evidence.workers)
    growth = [(slo.actual, "until more workers answered", passed["grew"]) for slo in evidence.slos if slo.id == "grew"]
    recovery = "–" if evidence.recovery_s is None else f"{evidence.recovery_s:.1f} s"
    return [
        (f"{r.failed:,}", f"of {r.sent:,} requests failed", passed.get("failed-requests", True)),
        (f"{s.sent - s.finished:,}", f"of {s.sent:,} streams lost", passed.get("lost-streams", True)),
        (recovery, "until recovered, with redundancy", passed.get("recovery", True)),
        growth[0] if growth else (f"{touched:,}", f"of {there:,} workers touched", passed.get("workers", True)),
        (_ms(evidence.latency_ms["during"].p99), "p99 until recovered", passed.get("p99-during", True)),
    ]


def _series_facts(series: SeriesEvidence) -> list[tuple[str, str, bool]]:
    """Return the most important figures of a series, as `_facts` does."""
    lossy, recovery, silence = series.lossy, series.recovery_s, series.longest_silence_s
    touched = sum(row.workers_touched for row in series.faults)
    lost = series.requests.lost + series.streams.lost
    late = any(row.fault_at is not None and row.recovery_s is None for row in series.faults)
    return [
        (
            f"{lossy.lossy} of {lossy.of}",
            f"faults lost anything; with 95 % confidence fewer than {_share(lossy.upper)}",
            not lossy.lossy,
        ),
        (f"{lost:,}", f"of {series.requests.sent + series.streams.sent:,} requests and streams lost", not lost),
        (_tenths(recovery.p50), f"until recovered, p50; p95 {_tenths(recovery.p95)}, worst {_tenths(recovery.worst)}", not late),
        (_tenths(silence.worst), f"longest silence of a stream; p50 {_tenths(silence.p50)}, p95 {_tenths(silence.p95)}", True),
        (f"{touched:,}", "workers touched", not touched),
    ]


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _tenths(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _share(value: float) -> str:
    """Return a share in per cent, with two digits."""
    return f"{100 * value:.1f} %" if value < 0.1 else f"{100 * value:.0f} %"


def _figure(value: float | None, unit: str = "") -> str:
    """Return a number with as many decimals as are significant, and its unit."""
    if value is None:
        return "–"
    digits = f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:,.2f}"
    return f"{digits} {unit}".strip().replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.1f} s".replace("-", "−")


def _short(uid: str | None) -> str:
    return "–" if uid is None else uid.split("-")[0][:12]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0 when everything is written, 2 when the input is not the evidence of a drill."""
    parser = argparse.ArgumentParser(prog="leeward report", description="Draw the report of a drill from its evidence.")
    parser.add_argument("evidence", type=Path, help="evidence.json, or the series.json of a series, which needs no records")
    parser.add_argument("records", type=Path, nargs="?", help="records.jsonl")
    parser.add_argument("-o", "--output", type=Path, metavar="HTML", help="where the report goes")
    parser.add_argument("--picture", type=Path, metavar="SVG", help="where the picture alone goes")
    parser.add_argument("--title", default="", help="title of the picture alone")
    parser.add_argument("--span", type=float, nargs=2, metavar=("FROM", "TO"), help="seconds since the fault that the picture alone shows")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="panels of the picture alone; all when not given")
    given = parser.parse_args(arguments)
    if not given.output and not given.picture:
        parser.error("say what to write: -o report.html, --picture picture.svg, or both")
    if given.span and given.span[0] >= given.span[1]:
        parser.error("--span: FROM must be before TO")
    if given.records is None and (given.picture or not given.output):
        parser.error("a drill needs its records.jsonl, too; of a series there is the page alone: -o series.html")
    try:
        if given.records is None:
            given.output.write_text(series_html(SeriesEvidence.load(given.evidence)), encoding="utf-8")
            return 0
        evidence, records = Evidence.load(given.evidence), read_records(given.records)
    except BadEvidence as error:
        print(error, file=sys.stderr)
        return 2
    if given.output:
        given.output.write_text(html(evidence, records), encoding="utf-8")
    if given.picture:
        span = tuple(given.span) if given.span else None
        given.picture.write_text(draw(evidence, records, alone=True, title=given.title, span=span, parts=given.parts), encoding="utf-8")
    return 0
