"""The event marks: vertical lines through all panels, labelled above them without running into each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drills.evidence import EventSeen
from drills.report.picture.scale import TimeAxis
from drills.report.picture.svg import element, text

__all__ = ["ROW", "Label", "labels", "lines", "rows"]

ROW = 16.0
CHARACTER = 6.3
"""Pixels of a character, roughly; labels are laid out without a font at hand."""
QUIET = {"worker not ready", "worker ready", "endpoint lost", "replica lost", "head container restarted", "head running"}
"""Drawn in the cluster lanes or listed below; as labels they would bury the rest."""


@dataclass(frozen=True, slots=True)
class Label:
    """A mark with its words and the row they stand in (0 is nearest to the panels)."""

    t: float
    words: str
    kind: str
    row: int


def labels(events: Sequence[EventSeen], axis: TimeAxis) -> list[Label]:
    """The labels of the events worth a mark, left to right, each in the lowest row where it fits."""
    ends: list[float] = []
    placed = []
    for t, words, kind in _merged(events, axis):
        x = axis.x(t)
        left, right = _extent(x, words, axis)
        row = next((n for n, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [right + 8]
        placed.append(Label(t, words, kind, row))
    return placed


def rows(those: Sequence[Label]) -> int:
    """How many rows the labels take."""
    return max((label.row for label in those), default=-1) + 1


def lines(those: Sequence[Label], axis: TimeAxis, top: float, bottom: float) -> str:
    """The lines from each label down to the foot of the picture, and the words."""
    drawn, words = [], []
    for label in those:
        x, y = axis.x(label.t), top - 6 - label.row * ROW
        suffix = {"fault": "-fault", "trouble": "-bad"}.get(label.kind, "")
        drawn.append(element("line", x1=x, x2=x, y1=y - 8, y2=bottom, class_="mark" + suffix))
        flipped = _flipped(x, label.words, axis)
        words.append(text(label.words, x - 5 if flipped else x + 5, y, f"halo label{suffix}", "end" if flipped else "start"))
    # The words last, with a halo: a line of a later event crosses those of earlier ones.
    return "".join(drawn + words)


def _merged(events: Sequence[EventSeen], axis: TimeAxis) -> list[tuple[float, str, str]]:
    """Events on the axis that deserve a mark; those that would stand on one place share a label, the gravest kind wins."""
    near = axis.span * 0.004
    found: list[tuple[float, str, str]] = []
    for event in events:
        if event.kind == "note" or event.what in QUIET or not axis.shows(event.t):
            continue
        words = f"{event.what}, {event.t:.1f} s" if event.what == "recovered" else event.what
        if found and event.t - found[-1][0] <= near and "fault" not in (found[-1][2], event.kind):
            t, earlier, kind = found[-1]
            joined = earlier if words in earlier.split(" · ") else f"{earlier} · {words}"
            found[-1] = (t, joined, "trouble" if "trouble" in (kind, event.kind) else kind)
        else:
            found.append((event.t, words, event.kind))
    return found


def _flipped(x: float, words: str, axis: TimeAxis) -> bool:
    return x + 5 + len(words) * CHARACTER > axis.right + 10


def _extent(x: float, words: str, axis: TimeAxis) -> tuple[float, float]:
    width = 5 + len(words) * CHARACTER
    return (x - width, x) if _flipped(x, words, axis) else (x, x + width)
