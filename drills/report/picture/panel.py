"""A panel of a picture: a height and a drawing, below a line with its name."""

from __future__ import annotations

from dataclasses import dataclass

from drills.report.picture.scale import TimeAxis
from drills.report.picture.svg import element, text


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; y = 0 is its upper edge."""

    name: str
    note: str
    """Explanation beside the name, in a lighter colour."""
    height: float
    body: str


def grid_line(axis: TimeAxis, y: float, label: str) -> str:
    """Draw a horizontal line through a panel, with its value on the left."""
    line = element("line", x1=axis.left, x2=axis.right, y1=y, y2=y, class_="grid")
    return line + text(label, axis.left - 7, y + 3.5, "tick", "end")
