"""The picture of a drill: events, pods, requests, latency and streams upon one time axis, as SVG.

It is drawn from evidence and records alone, so it can be drawn again years later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from drills.evidence import Evidence
from drills.picture import events as event_marks
from drills.picture.cluster import cluster
from drills.picture.panel import Panel
from drills.picture.requests import latency, rate
from drills.picture.scale import TimeAxis
from drills.picture.streams import streams
from drills.picture.style import PATTERNS, sheet
from drills.picture.svg import element, number, text
from drills.traffic import on_observers_clock
from serving.records import Record

__all__ = ["PARTS", "axis_of", "draw"]

PARTS = ("pods", "requests", "latency", "streams")

NAME_ROOM, FOOT = 44.0, 40.0
"""Above each panel for its name; below the last for the axis."""


def draw(
    evidence: Evidence,
    records: Iterable[Record],
    *,
    alone: bool = False,
    title: str = "",
    span: tuple[float, float] | None = None,
    parts: Sequence[str] = PARTS,
) -> str:
    """The picture as SVG.

    Args:
        alone: with style, page and title of its own, to be shown outside the report.
        title: put before the counts, when alone; the drill's own title when empty.
        span: seconds since the fault that are shown; everything when None. Two pictures with one span can be compared.
        parts: the panels that are drawn, some of `PARTS`; always in that order.
    """
    on_axis = on_observers_clock(records, evidence.clock_offset_s + evidence.zero_at)
    short = [r for r in on_axis if r.kind == "short"]
    long = [r for r in on_axis if r.kind == "stream"]
    axis = axis_of(evidence, on_axis, span)
    drawn = {
        "pods": cluster(axis, evidence.pods),
        "requests": rate(axis, short),
        "latency": latency(axis, short, evidence.definition.slos, _recovering(evidence, axis)),
        "streams": streams(axis, long),
    }
    panels = [panel for name, panel in drawn.items() if panel and name in parts]
    return _composed(evidence, axis, panels, _heading(title or evidence.title, short, long) if alone else "")


def axis_of(evidence: Evidence, records: Sequence[Record], span: tuple[float, float] | None = None) -> TimeAxis:
    """The axis from the first request to the end of the last, or to recovery when that was later; a margin besides."""
    if span is not None:
        return TimeAxis(*span)
    window = evidence.window
    start = min((r.due for r in records), default=window.start)
    end = max([*(r.end for r in records), window.recovered or 0.0] if records else [window.end])
    room = max(end - start, 1.0) * 0.01
    return TimeAxis(start - room, max(end, start + 1) + room)


def _heading(title: str, short: Sequence[Record], long: Sequence[Record]) -> str:
    bad, cut = sum(not r.ok for r in short), sum(not r.ok for r in long)
    return f"{title}: {bad:,} of {len(short):,} requests and {cut:,} of {len(long):,} streams lost"


def _composed(evidence: Evidence, axis: TimeAxis, panels: Sequence[Panel], heading: str) -> str:
    labels = event_marks.labels(evidence.events, axis)
    top = (30 if heading else 4) + event_marks.rows(labels) * event_marks.ROW + 4
    shades, bodies, names = [], [], []
    y = top
    for panel in panels:
        names.append(_name(axis, panel, y + NAME_ROOM - 15))
        y += NAME_ROOM
        shades.append(_during(evidence, axis, y - 3, panel.height + 6))
        bodies.append(element("g", panel.body, transform=f"translate(0 {number(y)})") if panel.body else "")
        y += panel.height
    bottom = y + 8
    marks = event_marks.lines(labels, axis, top, bottom)
    title = text(heading, axis.left, 20, "head") if heading else ""
    drawing = "".join([*shades, _foot(evidence, axis, top, bottom), *bodies, marks, *names, title])
    return _page(evidence, axis, bottom + FOOT, drawing, alone=bool(heading))


def _name(axis: TimeAxis, panel: Panel, y: float) -> str:
    """The panel's name and note, over the lines that cross them."""
    note = element("tspan", escape(panel.note), class_="note", dx=9)
    return element("text", element("tspan", escape(panel.name), class_="name"), note, x=axis.left, y=y, class_="halo")


def _during(evidence: Evidence, axis: TimeAxis, y: float, height: float) -> str:
    """The time between fault and recovery, tinted behind a panel."""
    recovering = _recovering(evidence, axis)
    if recovering is None:
        return ""
    x, end = axis.x(recovering[0]), axis.x(recovering[1])
    return element("rect", x=x, y=y, width=max(end - x, 0.1), height=height, class_="during")


def _recovering(evidence: Evidence, axis: TimeAxis) -> tuple[float, float] | None:
    """From the fault until recovered, or to the end of the axis; None when there was no fault."""
    recovered = evidence.window.recovered
    return None if evidence.fault_at is None else (0.0, axis.end if recovered is None else recovered)


def _foot(evidence: Evidence, axis: TimeAxis, top: float, bottom: float) -> str:
    ticks = [
        element("line", x1=axis.x(t), x2=axis.x(t), y1=top, y2=bottom + 4, class_="grid")
        + text(label, axis.x(t), bottom + 17, "tick", "middle")
        for t, label in axis.ticks()
    ]
    line = element("line", x1=axis.left, x2=axis.right, y1=bottom, y2=bottom, class_="axis")
    since = (
        f"since the fault ({evidence.title.lower()})" if evidence.fault_at is not None else "since the drill began (no fault was injected)"
    )
    unit = "time" if axis.span > 600 else "seconds"
    return "".join(ticks) + line + text(f"{unit} {since}", (axis.left + axis.right) / 2, bottom + 34, "", "middle")


def _page(evidence: Evidence, axis: TimeAxis, height: float, drawing: str, *, alone: bool) -> str:
    size = f'viewBox="0 0 {number(axis.width)} {number(height)}" width="{number(axis.width)}" height="{number(height)}"'
    title = element("title", escape(evidence.headline), id="lw-title")
    description = element("desc", escape(_described(evidence)), id="lw-desc")
    style = element("style", sheet()) + element("rect", width=axis.width, height=height, class_="page") if alone else ""
    head = '<svg xmlns="http://www.w3.org/2000/svg" class="lw" role="img" aria-labelledby="lw-title lw-desc"'
    return f"{head} {size}>{title}{description}{style}{PATTERNS}{drawing}</svg>\n"


def _described(evidence: Evidence) -> str:
    """The picture in words, for those who cannot see it."""
    r, s = evidence.requests, evidence.streams
    marked = "; ".join(f"{e.what} at {e.t:.1f} s" for e in evidence.events if e.kind in ("fault", "milestone"))
    return (
        f"One time axis. Events: {marked or 'none'}. {r.failed} of {r.sent} short requests failed. Of {s.sent} token streams "
        f"{s.finished} finished, {s.cut} were cut, {s.hung} hung, {s.refused} were refused, {s.wrong} answered wrongly."
    )
