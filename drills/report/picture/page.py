"""A page: panels one below the other upon one time axis, events as lines through all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from drills.evidence import EventSeen
from drills.report.picture import events as event_marks
from drills.report.picture.panel import Panel
from drills.report.picture.scale import TimeAxis
from drills.report.picture.style import PATTERNS, sheet
from drills.report.picture.svg import element, number, text

__all__ = ["Page", "composed"]

NAME_ROOM, FOOT = 44.0, 40.0
"""Above each panel for its name; below the last for the axis."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page has besides its panels."""

    axis: TimeAxis
    events: Sequence[EventSeen]
    since: str
    """What time is counted from, below the axis: "since the fault"."""
    title: str
    """For those who cannot see it, as is the description."""
    description: str
    heading: str = ""
    """Drawn above; with one the page stands alone, with style and background of its own."""
    tinted: tuple[float, float] | None = None
    """A time that is tinted behind the panels."""


def composed(page: Page, panels: Sequence[Panel]) -> str:
    """The page as SVG."""
    axis = page.axis
    labels = event_marks.labels(page.events, axis)
    top = (30 if page.heading else 4) + event_marks.rows(labels) * event_marks.ROW + 4
    shades, bodies, names = [], [], []
    y = top
    for panel in panels:
        names.append(_name(axis, panel, y + NAME_ROOM - 15))
        y += NAME_ROOM
        shades.append(_tint(page, y - 3, panel.height + 6))
        bodies.append(element("g", panel.body, transform=f"translate(0 {number(y)})") if panel.body else "")
        y += panel.height
    bottom = y + 8
    marks = event_marks.lines(labels, axis, top, bottom)
    title = text(page.heading, axis.left, 20, "head") if page.heading else ""
    return _svg(page, bottom + FOOT, "".join([*shades, _foot(page, top, bottom), *bodies, marks, *names, title]))


def _name(axis: TimeAxis, panel: Panel, y: float) -> str:
    """The panel's name and note, over the lines that cross them."""
    note = element("tspan", escape(panel.note), class_="note", dx=9)
    return element("text", element("tspan", escape(panel.name), class_="name"), note, x=axis.left, y=y, class_="halo")


def _tint(page: Page, y: float, height: float) -> str:
    if page.tinted is None:
        return ""
    x, end = page.axis.x(page.tinted[0]), page.axis.x(page.tinted[1])
    return element("rect", x=x, y=y, width=max(end - x, 0.1), height=height, class_="during")


def _foot(page: Page, top: float, bottom: float) -> str:
    axis = page.axis
    ticks = [
        element("line", x1=axis.x(t), x2=axis.x(t), y1=top, y2=bottom + 4, class_="grid")
        + text(label, axis.x(t), bottom + 17, "tick", "middle")
        for t, label in axis.ticks()
    ]
    line = element("line", x1=axis.left, x2=axis.right, y1=bottom, y2=bottom, class_="axis")
    unit = "time" if axis.span > 600 else "seconds"
    return "".join(ticks) + line + text(f"{unit} {page.since}", (axis.left + axis.right) / 2, bottom + 34, "", "middle")


def _svg(page: Page, height: float, drawing: str) -> str:
    width = page.axis.width
    size = f'viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" height="{number(height)}"'
    title = element("title", escape(page.title), id="lw-title")
    description = element("desc", escape(page.description), id="lw-desc")
    style = element("style", sheet()) + element("rect", width=width, height=height, class_="page") if page.heading else ""
    head = '<svg xmlns="http://www.w3.org/2000/svg" class="lw" role="img" aria-labelledby="lw-title lw-desc"'
    return f"{head} {size}>{title}{description}{style}{PATTERNS}{drawing}</svg>\n"
