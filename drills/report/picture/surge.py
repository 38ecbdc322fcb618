"""The picture of a surge: requests, and how engines, workers and nodes followed them, upon one time axis, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drills.evidence import EventSeen
from drills.judge.traffic import on_observers_clock
from drills.observed import EventKind
from drills.pods import spans
from drills.report.picture.cluster import cluster
from drills.report.picture.page import Page, composed
from drills.report.picture.requests import rate
from drills.report.picture.scale import TimeAxis
from drills.report.picture.steps import Count, steps
from drills.surge.sample import Sample
from serving.records import Record

__all__ = ["Course", "draw"]


@dataclass(frozen=True, slots=True)
class Course:
    """A surge as it is drawn. Moments are seconds since the epoch; None: it did not come to that."""

    zero: float
    """What is 0 on the axis."""
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


def draw(course: Course, *, title: str = "", span: tuple[float, float] | None = None) -> str:
    """The picture as SVG, with style and page of its own.

    Args:
        title: put before the counts.
        span: seconds since the surge began that are shown; everything when None.
    """
    requests = on_observers_clock(course.records, course.zero)
    axis = TimeAxis(*span) if span else _axis(course, requests)
    counts = [(s, s.t - course.zero) for s in course.samples]
    panels = [
        replace(rate(axis, requests), name="Requests and streams a second"),
        steps(axis, "Engine replicas", "nothing: Ray could not be asked", [Count(t, s.engines, s.engines or 0) for s, t in counts]),
        steps(axis, "Workers", "solid: ready · striped: not ready", [Count(t, len(s.ready), len(s.workers)) for s, t in counts]),
        steps(
            axis, "inf2 nodes", "solid: Ready · striped: being launched or ended", [Count(t, len(s.nodes), s.launched) for s, t in counts]
        ),
        cluster(axis, spans([s.snapshot() for s in course.samples], course.zero), _newcomers(course)),
    ]
    surge = _since_zero(course, course.surge_at)
    page = Page(
        axis=axis,
        events=_events(course),
        since="since the surge began" if surge is not None else "since the run began (there was no surge)",
        title=course.headline,
        description=_described(course),
        heading=_heading(title, requests),
        tinted=None if surge is None else (surge, axis.end if course.ended_at is None else course.ended_at - course.zero),
    )
    return composed(page, [panel for panel in panels if panel])


def _axis(course: Course, requests: Sequence[Record]) -> TimeAxis:
    moments = [*(s.t - course.zero for s in course.samples), *(r.due for r in requests), *(r.end for r in requests)] or [0.0]
    start, end = min(moments), max(moments)
    room = max(end - start, 1.0) * 0.01
    return TimeAxis(start - room, max(end, start + 1) + room)


def _newcomers(course: Course) -> set[str]:
    """UIDs of the workers that were not there when the surge began."""
    earlier = [s for s in course.samples if course.surge_at is None or s.t < course.surge_at]
    here = {w.uid for s in course.samples for w in s.workers}
    return here - {w.uid for s in earlier for w in s.workers} if earlier else set()


def _heading(title: str, requests: Sequence[Record]) -> str:
    lost = sum(not r.ok for r in requests)
    return f"{title or 'A surge'}: {lost:,} of {len(requests):,} requests and streams lost"


def _events(course: Course) -> list[EventSeen]:
    named: list[tuple[float | None, str, EventKind]] = [
        (course.surge_at, "surge begins", "milestone"),
        (course.fault_at, course.fault, "fault"),
        (course.grown_at, "more workers answer", "milestone"),
        (course.ended_at, "surge ends", "milestone"),
        (course.workers_back_at, "workers as before", "milestone"),
        (course.nodes_back_at, "nodes as before", "milestone"),
    ]
    found = [EventSeen(t=round(at - course.zero, 3), what=what, kind=kind) for at, what, kind in named if at is not None]
    return sorted(found, key=lambda e: e.t)


def _since_zero(course: Course, at: float | None) -> float | None:
    return None if at is None else at - course.zero


def _described(course: Course) -> str:
    """The picture in words, for those who cannot see it."""
    marked = "; ".join(f"{e.what} at {e.t:.0f} s" for e in _events(course))
    most = max((len(s.answering) for s in course.samples), default=0)
    return f"One time axis. Events: {marked or 'none'}. At most {most} workers answered. {course.headline}"
