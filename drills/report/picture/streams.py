"""The stream lanes: every stream is a thin line from its first to its last token, a lost one in red with its mark.

A few streams have a row each, in order of due, so that a hole in the staircase is visible at once. Many streams share rows, one after the
other. In both cases lost ones are drawn last and never thinner than a pixel, so that none is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from drills.judge.traffic import count
from drills.records import Record
from drills.report.picture.figure import Panel
from drills.report.picture.marks import LEGEND, mark
from drills.report.picture.scale import TimeAxis
from drills.report.picture.svg import element, number

STAIRCASE = 240
"""Largest number of streams for which each has a row of its own."""
HIGHEST = 330.0
MARK_ROOM = 0.01
"""Width of a mark as a share of the axis: the marks of streams that were refused one after the other must not overlap."""
SILENCE_S = 1.0
"""Seconds between two tokens from which on the line is drawn lighter."""


def streams_panel(axis: TimeAxis, those: Sequence[Record]) -> Panel:
    """Draw the panel; the streams are in order of due."""
    rows = list(range(len(those))) if len(those) <= STAIRCASE else lanes(those, room_s=axis.span * MARK_ROOM)
    n = max(rows, default=-1) + 1
    pitch = min(5.0 if len(those) <= STAIRCASE else 14.0, HIGHEST / max(n, 1))
    thick = max(pitch * 0.62, 0.5)
    placed = [(record, (row + 0.5) * pitch) for record, row in zip(those, rows, strict=True)]
    fine = _fine(axis, [(r, y) for r, y in placed if r.ok], thick)
    lost = "".join(_lost(axis, r, y, max(thick, 1.2)) for r, y in placed if not r.ok)
    ways = " · ".join(f"{n:,} {LEGEND[how]}" for how, n in count(those).items() if n and how in LEGEND)
    note = f"{len(those):,} sent, each a line from its first to its last token: {ways or 'none lost'}"
    return Panel("Token streams", note, max(n * pitch, 24), fine + lost)


def lanes(those: Sequence[Record], room_s: float) -> list[int]:
    """Return a row for each stream such that no two in one row overlap; a lost one takes at least `room_s`, for its mark."""
    ends: list[float] = []
    rows = []
    for record in those:
        row = next((n for n, end in enumerate(ends) if end <= record.due), len(ends))
        ends[row : row + 1] = [record.end if record.ok else max(record.end, record.due) + room_s]
        rows.append(row)
    return rows


def _fine(axis: TimeAxis, placed: Sequence[tuple[Record, float]], thick: float) -> str:
    """Draw all finished streams as two paths: the lines, and over them the silences."""
    spoken, silent = [], []
    for record, y in placed:
        spoken.append(_stroke(axis, record.token_times[0] if record.token_times else record.sent, record.end, y))
        silent += [_stroke(axis, a, b, y) for a, b in pairwise(record.token_times) if b - a >= SILENCE_S]
    return _path(spoken, "ok-line", thick) + _path(silent, "gap-line", thick)


def _lost(axis: TimeAxis, record: Record, y: float, thick: float) -> str:
    """Draw a lost stream: solid while tokens came, dotted while the client waited, with its mark at the end."""
    if record.end < axis.start or record.due > axis.end:
        return ""
    silent_from = record.token_times[-1] if record.token_times else record.sent
    drawn = _path([_stroke(axis, record.token_times[0], silent_from, y)], "bad-line", thick) if record.token_times else ""
    if record.end - silent_from > 0.2:
        drawn += _path([_stroke(axis, silent_from, record.end, y)], "hang-line", min(thick, 1.2))
    return element("g", element("title", escape(_tooltip(record))), drawn, mark(record.outcome, axis.x(record.end), y))


def _tooltip(record: Record) -> str:
    """Return how a stream was lost, which is shown when the pointer rests on it."""
    how = LEGEND.get(record.outcome, record.outcome)
    of = f" of {record.expected_tokens}" if record.expected_tokens else ""  # 0: every answer is another one
    tokens = f"{len(record.token_times)}{of} tokens"
    side = "after" if record.end >= 0 else "before"
    return f"stream {record.id}: {how} after {tokens}, {abs(record.end):.1f} s {side} the fault. {record.detail}".rstrip()


def _stroke(axis: TimeAxis, since: float, until: float, y: float) -> str:
    x = axis.x(since)
    return f"M{number(x)} {number(y)}H{number(max(axis.x(until), x + 0.4))}" if until >= axis.start and since <= axis.end else ""


def _path(strokes: Sequence[str], class_: str, thick: float) -> str:
    d = "".join(strokes)
    return element("path", d=d, class_=class_, stroke_width=thick) if d else ""
