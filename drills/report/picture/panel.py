"""What every panel of the picture is: a height and a drawing, below a line with its name."""

from __future__ import annotations

from dataclasses import dataclass

from drills.report.picture.scale import TimeAxis
from drills.report.picture.svg import element, text

__all__ = ["Panel", "level"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: y = 0 is its upper edge."""

    name: str
    note: str
    """Said beside the name, softly."""
    height: float
    body: str


def level(axis: TimeAxis, y: float, label: str, class_: str = "grid") -> str:
    """A horizontal line through a panel, its value written left of it."""
    line = element("line", x1=axis.left, x2=axis.right, y1=y, y2=y, class_=class_)
    return line + text(label, axis.left - 7, y + 3.5, "tick", "end")
