"""The panels of counts over time, as steps: solid for objects that were ready, striped for those that were starting or ending."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from drills.evidence import SizeSeen
from drills.report.picture.figure import Panel, grid_line
from drills.report.picture.scale import TimeAxis, nice_step
from drills.report.picture.svg import element, text

HEIGHT = 62.0
MOST_LINES = 5


@dataclass(frozen=True, slots=True)
class Count:
    """The number of objects at a moment on the axis."""

    t: float
    ready: int | None
    """Number of ready objects; None when it is not known, and nothing is drawn."""
    all: int
    """Number of objects, ready or not."""


def size_panels(axis: TimeAxis, sizes: Sequence[SizeSeen]) -> list[Panel]:
    """Draw how replicas, workers and nodes followed a surge; nothing for another drill, and no nodes where they were not observed."""
    if not sizes:
        return []
    note = "of the deployment that has fewest; nothing: Ray could not be asked"
    panels = [
        steps_panel(axis, "Replicas", note, [Count(s.t, s.sets, s.sets or 0) for s in sizes]),
        steps_panel(axis, "Workers", "solid: ready · striped: not ready", [Count(s.t, s.ready, s.workers) for s in sizes]),
    ]
    if any(s.launched for s in sizes):
        note = "solid: Ready · striped: being launched or ended"
        panels.append(steps_panel(axis, "Nodes of the model", note, [Count(s.t, s.nodes, s.launched) for s in sizes]))
    return panels


def steps_panel(axis: TimeAxis, name: str, note: str, counts: Sequence[Count]) -> Panel:
    """Draw the panel. The counts are in order of time, and each lasts until the next one."""
    most = max((max(c.all, c.ready or 0) for c in counts), default=0)
    step = max(1, math.ceil(nice_step(max(most, 1), MOST_LINES)))
    top = step * max(1, math.ceil(most / step))
    lines = "".join(grid_line(axis, HEIGHT * (1 - n / top), f"{n}") for n in range(0, top + 1, step))
    return Panel(name, note, HEIGHT, lines + "".join(_run(axis, run, until, top) for run, until in _runs(counts)))


def _runs(counts: Sequence[Count]) -> list[tuple[Count, float]]:
    """Return equal successive counts merged into one, each with its end."""
    found: list[tuple[Count, float]] = []
    for count in counts:
        if found and (found[-1][0].ready, found[-1][0].all) == (count.ready, count.all):
            found[-1] = (found[-1][0], count.t)
        else:
            if found:
                found[-1] = (found[-1][0], count.t)
            found.append((count, count.t))
    return found


def _run(axis: TimeAxis, run: Count, until: float, top: int) -> str:
    if run.ready is None or until < axis.start or run.t > axis.end:
        return ""
    x, width = axis.x(run.t), max(axis.x(until) - axis.x(run.t), 0.6)
    high, waiting = HEIGHT * run.ready / top, HEIGHT * max(0, run.all - run.ready) / top
    words = f"{run.ready} ready" + (f", {run.all - run.ready} not" if waiting else "") + f" from {run.t:.0f} s to {until:.0f} s"
    title = element("title", escape(words))
    drawn = element("rect", title, x=x, y=HEIGHT - high, width=width, height=high, class_="pod") if high else ""
    if waiting:
        drawn += element("rect", title, x=x, y=HEIGHT - high - waiting, width=width, height=waiting, class_="pod-wait")
    return drawn + (text(f"{run.ready}", x + 5, HEIGHT - high + 12, "in-bar") if high >= 14 and width > 16 else "")
