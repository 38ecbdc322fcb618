"""The event marks: vertical lines through all panels, with labels above them that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drills.observed import Event
from drills.report.picture.scale import TimeAxis
from drills.report.picture.svg import element, text

ROW = 16.0
CHARACTER = 6.3
"""Approximate width of a character in pixels; labels are placed without font metrics."""
QUIET = {"worker not ready", "worker ready", "endpoint lost", "replica lost", "head container restarted", "head running"}
"""Events without a label: the pod lanes or the table show them, and there are too many of them."""


@dataclass(frozen=True, slots=True)
class Label:
    """A mark with its text and the row of the text (0 is nearest to the panels)."""

    t: float
    words: str
    kind: str
    row: int


def labels(events: Sequence[Event], axis: TimeAxis) -> list[Label]:
    """Return the labels of the events that get a mark, from left to right, each in the lowest row where it fits."""
    ends: list[float] = []
    placed = []
    for t, words, kind in _merged(events, axis):
        x = axis.x(t)
        width = 5 + len(words) * CHARACTER
        left, right = (x - width, x) if _flipped(x, words, axis) else (x, x + width)
        row = next((n for n, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [right + 8]
        placed.append(Label(t, words, kind, row))
    return placed


def lines(those: Sequence[Label], axis: TimeAxis, top: float, bottom: float) -> str:
    """Draw a line from each label down to the foot of the picture, and the texts."""
    drawn, words = [], []
    for label in those:
        x, y = axis.x(label.t), top - 6 - label.row * ROW
        suffix = {"fault": "-fault", "trouble": "-bad"}.get(label.kind, "")
        drawn.append(element("line", x1=x, x2=x, y1=y - 8, y2=bottom, class_="mark" + suffix))
        flipped = _flipped(x, label.words, axis)
        words.append(text(label.words, x - 5 if flipped else x + 5, y, f"halo label{suffix}", "end" if flipped else "start"))
    # The texts come last, with a halo, because the line of a later event crosses the texts of earlier ones.
    return "".join(drawn + words)


def _merged(events: Sequence[Event], axis: TimeAxis) -> list[tuple[float, str, str]]:
    """Return the events on the axis that get a mark. Events in the same place share a label, which is drawn as the most serious kind."""
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
