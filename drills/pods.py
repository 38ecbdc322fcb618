"""The state of each pod of the Ray cluster over time: the bars in the pod lanes of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from drills.observed import HeadSeen, PodSeen, Snapshot
from drills.value import Seconds, Value


class PodSpan(Value):
    """One pod in one state from one moment to another, in seconds since the fault. A pod without a span did not exist then."""

    role: Literal["head", "worker"]
    pod: str
    uid: str
    since: Seconds
    until: Seconds
    state: Literal["ready", "not-ready"]
    restarts: int
    """Restarts of its Ray container since the drill began."""


def spans(snapshots: Sequence[Snapshot], zero: float) -> tuple[PodSpan, ...]:
    """Return the spans of all pods; a state lasts until the snapshot that shows another one."""
    found: list[PodSpan] = []
    open_: dict[str, PodSpan] = {}
    restarts: dict[str, int] = {}
    for snapshot in snapshots:
        now = {pod.uid: _span(pod, snapshot.t - zero, restarts) for pod in snapshot.pods}
        for uid, span in list(open_.items()):
            longer = span.model_copy(update={"until": snapshot.t - zero})
            if uid in now and (now[uid].state, now[uid].restarts) == (span.state, span.restarts):
                open_[uid] = longer
            else:
                found.append(longer)
                del open_[uid]
        open_ = {**{uid: span for uid, span in now.items() if uid not in open_}, **open_}
    return tuple(sorted([*found, *open_.values()], key=lambda s: (s.role, s.pod, s.since)))


def _span(pod: PodSeen, t: float, restarts: dict[str, int]) -> PodSpan:
    """Return a span that begins and ends now. `restarts` keeps the restart count with which each pod was first seen."""
    since = pod.restarts - restarts.setdefault(pod.uid, pod.restarts)
    return PodSpan(
        role="head" if isinstance(pod, HeadSeen) else "worker",
        pod=pod.pod,
        uid=pod.uid,
        since=t,
        until=t,
        state="ready" if pod.ready else "not-ready",
        restarts=since,
    )
