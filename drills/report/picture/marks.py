"""The shapes that mark how a request was lost: no information is carried by colour alone."""

from __future__ import annotations

from drills.records import Outcome
from drills.report.picture.svg import element, number

LEGEND: dict[Outcome, str] = {"cut": "cut in mid-answer", "hung": "hung: fell silent", "refused": "refused", "wrong": "wrong answer"}
"""Meaning of each mark."""


def mark(outcome: Outcome, x: float, y: float, size: float = 3.6) -> str:
    """Draw the mark of a lost request: × cut, ○ hung, ◇ refused, ■ wrong."""
    if outcome == "hung":
        return element("circle", cx=x, cy=y, r=size * 0.9, class_="ring")
    if outcome == "wrong":
        return element("rect", x=x - size * 0.8, y=y - size * 0.8, width=size * 1.6, height=size * 1.6, class_="bad")
    s, n = size, number
    if outcome == "refused":
        path = f"M{n(x)} {n(y - s)}l{n(s)} {n(s)}l{n(-s)} {n(s)}l{n(-s)} {n(-s)}z"
        return element("path", d=path, class_="ring")
    return element("path", d=f"M{n(x - s)} {n(y - s)}l{n(2 * s)} {n(2 * s)}m0 {n(-2 * s)}l{n(-2 * s)} {n(2 * s)}", class_="bad-mark")
