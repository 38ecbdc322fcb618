"""The picture of a drill: events, pods, the size in a surge, requests, latency and streams on one time axis, as SVG.

It is drawn from evidence and records only, so it can be redrawn years later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drills.evidence import Evidence
from drills.judge.traffic import by_kind, on_observers_clock
from drills.records import Record
from drills.report.picture.cluster import pods_panel
from drills.report.picture.figure import Figure, Panel, compose
from drills.report.picture.requests import latency_panel, rate_panel
from drills.report.picture.scale import TimeAxis
from drills.report.picture.steps import size_panels
from drills.report.picture.streams import streams_panel

PARTS = ("pods", "sizes", "requests", "latency", "streams")


def draw(
    evidence: Evidence,
    records: Iterable[Record],
    *,
    alone: bool = False,
    title: str = "",
    span: tuple[float, float] | None = None,
    parts: Sequence[str] = PARTS,
) -> str:
    """Draw the picture as SVG.

    Args:
        alone: Whether it has a style, a background and a title of its own, to be shown outside the report.
        title: Text before the counts of a picture that stands alone; the title of the drill when empty.
        span: First and last second since the fault; everything when None. Two pictures with the same span can be compared.
        parts: Panels to draw, some of `PARTS`; they are always in that order.
    """
    on_axis = on_observers_clock(records, evidence.clock_offset_s + evidence.zero_at)
    short, long = by_kind(on_axis)
    axis = _axis(evidence, on_axis, span)
    recovered = evidence.window.recovered
    during = None if evidence.fault_at is None else (0.0, axis.end if recovered is None else recovered)
    there = {span.uid for span in evidence.pods if span.since <= 0}
    came = {span.uid for span in evidence.pods if span.role == "worker"} - there if evidence.sizes else set()  # in a surge
    drawn: dict[str, Sequence[Panel | None]] = {
        "pods": [pods_panel(axis, evidence.pods, came)],
        "sizes": size_panels(axis, evidence.sizes),
        "requests": [rate_panel(axis, short)],
        "latency": [latency_panel(axis, short, evidence.definition.slos, during)],
        "streams": [streams_panel(axis, long)],
    }
    panels = [panel for name, those in drawn.items() for panel in those if panel and name in parts]
    bad, cut = sum(not r.ok for r in short), sum(not r.ok for r in long)
    heading = f"{title or evidence.title}: {bad:,} of {len(short):,} requests and {cut:,} of {len(long):,} streams lost"
    since = f"the fault ({evidence.title.lower()})" if evidence.fault_at is not None else "the drill began (no fault was injected)"
    figure = Figure(
        axis=axis,
        events=evidence.events,
        since=f"since {since}",
        title=evidence.headline,
        description=_described(evidence),
        heading=heading if alone else "",
        tinted=during,
    )
    return compose(figure, panels)


def _axis(evidence: Evidence, records: Sequence[Record], span: tuple[float, float] | None) -> TimeAxis:
    """Return the axis from the first request to the end of the last one or to recovery, whichever is later, with a margin."""
    if span is not None:
        return TimeAxis(*span)
    window = evidence.window
    start = min((r.due for r in records), default=window.start)
    end = max([*(r.end for r in records), window.recovered or 0.0] if records else [window.end])
    room = max(end - start, 1.0) * 0.01
    return TimeAxis(start - room, max(end, start + 1) + room)


def _described(evidence: Evidence) -> str:
    """Return the picture in words, for screen readers."""
    r, s = evidence.requests, evidence.streams
    marked = "; ".join(f"{e.what} at {e.t:.1f} s" for e in evidence.events if e.kind in ("fault", "milestone"))
    return (
        f"One time axis. Events: {marked or 'none'}. {r.failed} of {r.sent} short requests failed. Of {s.sent} token streams "
        f"{s.finished} finished, {s.cut} were cut, {s.hung} hung, {s.refused} were refused, {s.wrong} answered wrongly."
    )
