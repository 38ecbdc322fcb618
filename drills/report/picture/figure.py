"""A figure: panels one below the other on one time axis, with events as lines through all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from drills.observed import Event
from drills.report.picture import events as event_marks
from drills.report.picture.scale import TimeAxis
from drills.report.picture.style import PATTERNS, sheet
from drills.report.picture.svg import element, number, text

NAME_ROOM, FOOT = 44.0, 40.0
"""Pixels above each panel for its name, and below the last one for the axis."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a drawing below a line with its name; y = 0 is its upper edge."""

    name: str
    note: str
    """Explanation beside the name, in a lighter colour."""
    height: float
    body: str


def grid_line(axis: TimeAxis, y: float, label: str) -> str:
    """Draw a horizontal line through a panel, with its value on the left."""
    line = element("line", x1=axis.left, x2=axis.right, y1=y, y2=y, class_="grid")
    return line + text(label, axis.left - 7, y + 3.5, "tick", "end")


@dataclass(frozen=True, slots=True)
class Figure:
    """Everything that a figure has besides its panels."""

    axis: TimeAxis
    events: Sequence[Event]
    since: str
    """Text below the axis that names its zero: "since the fault"."""
    title: str
    """Title for screen readers, as is the description."""
    description: str
    heading: str = ""
    """Text above the panels. A figure with a heading stands alone: it has its own style and background."""
    tinted: tuple[float, float] | None = None
    """Time range that is tinted behind the panels."""


def compose(figure: Figure, panels: Sequence[Panel]) -> str:
    """Return the figure as SVG."""
    axis = figure.axis
    labels = event_marks.labels(figure.events, axis)
    top = (30 if figure.heading else 4) + (max((label.row for label in labels), default=-1) + 1) * event_marks.ROW + 4
    shades, bodies, names = [], [], []
    y = top
    for panel in panels:
        names.append(_name(axis, panel, y + NAME_ROOM - 15))
        y += NAME_ROOM
        shades.append(_tint(figure, y - 3, panel.height + 6))
        bodies.append(element("g", panel.body, transform=f"translate(0 {number(y)})") if panel.body else "")
        y += panel.height
    bottom = y + 8
    marks = event_marks.lines(labels, axis, top, bottom)
    title = text(figure.heading, axis.left, 20, "head") if figure.heading else ""
    return _svg(figure, bottom + FOOT, "".join([*shades, _foot(figure, top, bottom), *bodies, marks, *names, title]))


def _name(axis: TimeAxis, panel: Panel, y: float) -> str:
    """Draw the name and note of a panel, above the lines that cross them."""
    note = element("tspan", escape(panel.note), class_="note", dx=9)
    return element("text", element("tspan", escape(panel.name), class_="name"), note, x=axis.left, y=y, class_="halo")


def _tint(figure: Figure, y: float, height: float) -> str:
    if figure.tinted is None:
        return ""
    x, end = figure.axis.x(figure.tinted[0]), figure.axis.x(figure.tinted[1])
    return element("rect", x=x, y=y, width=max(end - x, 0.1), height=height, class_="during")


def _foot(figure: Figure, top: float, bottom: float) -> str:
    axis = figure.axis
    ticks = [
        element("line", x1=axis.x(t), x2=axis.x(t), y1=top, y2=bottom + 4, class_="grid")
        + text(label, axis.x(t), bottom + 17, "tick", "middle")
        for t, label in axis.ticks()
    ]
    line = element("line", x1=axis.left, x2=axis.right, y1=bottom, y2=bottom, class_="axis")
    unit = "time" if axis.span > 600 else "seconds"
    return "".join(ticks) + line + text(f"{unit} {figure.since}", (axis.left + axis.right) / 2, bottom + 34, "", "middle")


def _svg(figure: Figure, height: float, drawing: str) -> str:
    width = figure.axis.width
    size = f'viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" height="{number(height)}"'
    title = element("title", escape(figure.title), id="lw-title")
    description = element("desc", escape(figure.description), id="lw-desc")
    style = element("style", sheet()) + element("rect", width=width, height=height, class_="page") if figure.heading else ""
    head = '<svg xmlns="http://www.w3.org/2000/svg" class="lw" role="img" aria-labelledby="lw-title lw-desc"'
    return f"{head} {size}>{title}{description}{style}{PATTERNS}{drawing}</svg>\n"
