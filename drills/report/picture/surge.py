"""The picture of a surge: requests, and how engines, workers and nodes followed them, on one time axis, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drills.evidence import EventSeen
from drills.judge.traffic import on_observers_clock
from drills.observed import EventKind
from drills.pods import spans
from drills.records import Record
from drills.report.picture.cluster import pods_panel
from drills.report.picture.figure import Figure, compose
from drills.report.picture.requests import rate_panel
from drills.report.picture.scale import TimeAxis
from drills.report.picture.steps import Count, steps_panel
from drills.surge.sample import Sample

__all__ = ["PictureData", "draw"]


@dataclass(frozen=True, slots=True)
class PictureData:
    """The data that the picture of a surge is drawn from. Moments are seconds since the epoch; None when they were not reached."""

    zero: float
    """The moment that is 0 on the axis."""
    surge_at: float | None
    fault_at: float | None
    fault: str
    """What the fault did, such as "head pod deleted"."""
    grown_at: float | None
    ended_at: float | None
    workers_back_at: float | None
    nodes_back_at: float | None
    headline: str
    samples: tuple[Sample, ...]
    records: tuple[Record, ...]


def draw(data: PictureData, *, title: str = "", span: tuple[float, float] | None = None) -> str:
    """Draw the picture as SVG, with a style and a background of its own.

    Args:
        title: Text before the counts.
        span: First and last second since the surge began; everything when None.
    """
    requests = on_observers_clock(data.records, data.zero)
    axis = TimeAxis(*span) if span else _axis(data, requests)
    counts = [(s, s.t - data.zero) for s in data.samples]
    panels = [
        replace(rate_panel(axis, requests), name="Requests and streams a second"),
        steps_panel(axis, "Engine replicas", "nothing: Ray could not be asked", [Count(t, s.engines, s.engines or 0) for s, t in counts]),
        steps_panel(axis, "Workers", "solid: ready · striped: not ready", [Count(t, len(s.ready), len(s.workers)) for s, t in counts]),
        steps_panel(
            axis, "inf2 nodes", "solid: Ready · striped: being launched or ended", [Count(t, len(s.nodes), s.launched) for s, t in counts]
        ),
        pods_panel(axis, spans([s.snapshot() for s in data.samples], data.zero), _new_workers(data)),
    ]
    surge = _since_zero(data, data.surge_at)
    figure = Figure(
        axis=axis,
        events=_events(data),
        since="since the surge began" if surge is not None else "since the run began (there was no surge)",
        title=data.headline,
        description=_described(data),
        heading=_heading(title, requests),
        tinted=None if surge is None else (surge, axis.end if data.ended_at is None else data.ended_at - data.zero),
    )
    return compose(figure, [panel for panel in panels if panel])


def _axis(data: PictureData, requests: Sequence[Record]) -> TimeAxis:
    moments = [*(s.t - data.zero for s in data.samples), *(r.due for r in requests), *(r.end for r in requests)] or [0.0]
    start, end = min(moments), max(moments)
    room = max(end - start, 1.0) * 0.01
    return TimeAxis(start - room, max(end, start + 1) + room)


def _new_workers(data: PictureData) -> set[str]:
    """Return the UIDs of the workers that were not there when the surge began."""
    earlier = [s for s in data.samples if data.surge_at is None or s.t < data.surge_at]
    here = {w.uid for s in data.samples for w in s.workers}
    return here - {w.uid for s in earlier for w in s.workers} if earlier else set()


def _heading(title: str, requests: Sequence[Record]) -> str:
    lost = sum(not r.ok for r in requests)
    return f"{title or 'A surge'}: {lost:,} of {len(requests):,} requests and streams lost"


def _events(data: PictureData) -> list[EventSeen]:
    named: list[tuple[float | None, str, EventKind]] = [
        (data.surge_at, "surge begins", "milestone"),
        (data.fault_at, data.fault, "fault"),
        (data.grown_at, "more workers answer", "milestone"),
        (data.ended_at, "surge ends", "milestone"),
        (data.workers_back_at, "workers as before", "milestone"),
        (data.nodes_back_at, "nodes as before", "milestone"),
    ]
    found = [EventSeen(t=round(at - data.zero, 3), what=what, kind=kind) for at, what, kind in named if at is not None]
    return sorted(found, key=lambda e: e.t)


def _since_zero(data: PictureData, at: float | None) -> float | None:
    return None if at is None else at - data.zero


def _described(data: PictureData) -> str:
    """Return the picture in words, for screen readers."""
    marked = "; ".join(f"{e.what} at {e.t:.0f} s" for e in _events(data))
    most = max((len(s.answering) for s in data.samples), default=0)
    return f"One time axis. Events: {marked or 'none'}. At most {most} workers answered. {data.headline}"
