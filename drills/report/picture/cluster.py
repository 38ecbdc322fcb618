"""The pod lanes: the head and every worker as bars, which show at a glance that one of them broke and the others did not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

from drills.pods import PodSpan
from drills.report.picture.figure import Panel
from drills.report.picture.scale import TimeAxis
from drills.report.picture.svg import element, text

LANE, BAR = 19.0, 13.0
MOST = 8
"""Number of worker lanes. Of more workers only those that were not always ready have a lane, and the others share the last one."""


def pods_panel(axis: TimeAxis, spans: Sequence[PodSpan], newcomers: Collection[str]) -> Panel | None:
    """Return the panel; None when no pod was seen. `newcomers` are the UIDs of workers that were added, and replaced no other one."""
    lanes = _lanes(spans)
    if not lanes:
        return None
    body = "".join(_lane(axis, label, those, n * LANE, newcomers) for n, (label, those) in enumerate(lanes))
    return Panel("Pods", "solid: ready · striped: not ready · nothing: not there · red: restarted", len(lanes) * LANE, body)


def _lanes(spans: Sequence[PodSpan]) -> list[tuple[str, list[PodSpan]]]:
    heads = [s for s in spans if s.role == "head"]
    workers: dict[str, list[PodSpan]] = {}
    for span in spans:
        if span.role == "worker":
            workers.setdefault(span.pod, []).append(span)
    lanes = [("head", heads)] if heads else []
    if len(workers) <= MOST:
        return lanes + [(f"worker {n}", those) for n, those in enumerate(workers.values(), 1)]
    eventful = [(f"worker {n}", those) for n, those in enumerate(workers.values(), 1) if len(those) > 1 or those[0].state != "ready"]
    steady = [those for those in workers.values() if len(those) == 1 and those[0].state == "ready"]
    longest = sorted(steady, key=lambda those: those[0].since - those[0].until)[:1]
    return lanes + eventful + [(f"{len(steady)} workers", those) for those in longest]


def _lane(axis: TimeAxis, label: str, spans: Sequence[PodSpan], y: float, newcomers: Collection[str]) -> str:
    uids = list(dict.fromkeys(s.uid for s in sorted(spans, key=lambda s: s.since)))
    bars = [_bar(axis, span, y, _words(span, uids, newcomers)) for span in spans if span.until > axis.start and span.since < axis.end]
    return text(label, axis.left - 7, y + BAR - 2.5, "tick", "end") + "".join(bars)


def _bar(axis: TimeAxis, span: PodSpan, y: float, words: str) -> str:
    x, end = axis.x(span.since), axis.x(span.until)
    title = element("title", escape(f"{span.pod}: {span.state} from {span.since:.1f} s to {span.until:.1f} s, restarts {span.restarts}"))
    class_ = "pod" if span.state == "ready" else "pod-bad" if span.restarts else "pod-wait"
    bar = element("rect", title, x=x, y=y, width=max(end - x, 1.5), height=BAR, class_=class_)
    fits = span.state == "ready" and end - x > len(words) * 6 + 12
    return bar + (text(words, x + 6, y + BAR - 3, "in-bar") if fits else "")


def _words(span: PodSpan, uids: Sequence[str], newcomers: Collection[str]) -> str:
    """Return the text in a bar: old or new where a pod was replaced, and whether it was restarted."""
    if span.restarts:
        return "the same pod, restarted"
    if span.uid in newcomers:
        return f"a new {span.role}"
    if len(uids) > 1:
        return ("old " if span.uid == uids[0] else "new ") + span.role
    return f"the same {span.role}"
