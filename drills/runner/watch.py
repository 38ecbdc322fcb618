"""The observation in a drill: the steady state before the fault, the recovery after it, and the last records of the load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime

from blocks.errors import Permanent, PipelineError
from drills.definition import Drill
from drills.judge import steady_state
from drills.judge.traffic import on_observers_clock
from drills.kubernetes.api import Api, Refused, Unavailable
from drills.observed import Event, EventKind, Snapshot
from drills.records import Record
from drills.runner import load_job
from drills.runner.faults import Follower
from drills.runner.journal import Journal
from drills.runner.observer import Observer
from drills.runner.raw_evidence import RawEvidence
from drills.runner.recovery import Recovery, Steadiness
from drills.runner.waiting import Pending
from drills.subject import Subject

API_AWAY_S = 60.0
"""Seconds that the API server may be unavailable in a drill. After that too much is unknown."""
RECORDS_FROM = "records_from"
"""Key of the raw evidence: the offset in bytes in the file of records from which on they ended after the fault."""
CLOCK_OFFSET = "clock_offset"
"""Key of the raw evidence: the load's clock minus the observer's."""
LOAD = "load"
"""Key of the raw evidence: what the load reported of itself at its end."""
FOOTPRINT = "vitals"
"""Key of the raw evidence: the footprint after recovery."""


class NotSteady(Permanent):
    """The steady state does not hold before a fault, so the fault is not done: a drill is aborted, a series ends."""


class StoppedAtLoss(NotSteady):
    """A request was lost, and the series was to stop at the first loss."""


def snapshots_every(observer: Observer, raw: RawEvidence, every_s: float, clock: Callable[[], float] = time.time) -> Iterator[Snapshot]:
    """Take a snapshot every so many seconds, without end, and write each into the raw evidence.

    Raises:
        Unavailable, Refused: the API server was unavailable for longer than API_AWAY_S. While it starts it also refuses allowed requests.
    """
    answered = clock()
    while True:
        begun = clock()
        try:
            snapshot = observer.take_snapshot()
        except PipelineError:
            if clock() - answered > API_AWAY_S:
                raise
        else:
            answered = clock()
            raw.snapshot(snapshot)
            yield snapshot
        time.sleep(max(0.05, every_s - (clock() - begun)))


class EndedRequests:
    """The requests that have ended since the last fault, on the observer's clock."""

    def __init__(self, load: load_job.LoadJob, raw: RawEvidence, since: float, keep_s: float) -> None:
        self._load, self._raw, self._since, self._keep_s = load, raw, since, keep_s
        self._seen_to = raw.last(RECORDS_FROM, 0)
        """Offset in bytes in the file of records up to which they were seen."""
        self._clock_offset = float(raw.last(CLOCK_OFFSET, 0.0))
        self.recent: list[Record] = []
        """The requests that ended in the last `keep_s` seconds."""
        self.lost = 0
        self.first_lost: Record | None = None
        self.lost_at = float("-inf")
        """When the last lost request ended."""
        self._answered = time.time()

    def read_on(self) -> bool:
        """Read the records that the load has written until now; returns False when they cannot be read, so that losses may be unknown.

        Raises:
            LoadFailed: the load is gone.
            Unavailable, Refused: its records could not be read for longer than API_AWAY_S.
        """
        try:
            self._load.read_on(self._raw.records)
        except (Unavailable, Refused):
            if time.time() - self._answered > API_AWAY_S:
                raise
            return False
        self._answered = time.time()
        unseen = load_job.records_in(self._raw.records, self._seen_to)
        found = [r for r in on_observers_clock(unseen, self._clock_offset) if r.end >= self._since]
        self._seen_to = self._raw.records.stat().st_size
        lost = [r for r in found if not r.ok]
        self.lost += len(lost)
        self.first_lost = self.first_lost or next(iter(lost), None)
        self.lost_at = max([self.lost_at, *(r.end for r in lost)])
        both = self.recent + found
        latest = max((r.end for r in both), default=0.0)
        self.recent = [r for r in both if r.end >= latest - self._keep_s]
        return True


def watch_before(
    observer: Observer,
    ended: EndedRequests,
    raw: RawEvidence,
    drill: Drill,
    check: Callable[[], None],
    on_pending: Callable[[Pending], None],
    *,
    no_loss: str = "",
    stop: bool = False,
) -> Snapshot:
    """Wait until the steady state has held under load for `before_s` without a lost request; returns the last snapshot.

    The snapshots in the raw evidence count. `check` is called after every snapshot and may raise.

    Args:
        no_loss: When no request may be lost, in words for the error that a loss then raises. Empty: after a loss the time starts again.
        stop: Whether that error is the requested end of a series, and no fault of the service.

    Raises:
        NotSteady: the steady state did not hold; the message has the reasons.
    """
    steadiness, began = Steadiness(drill), time.time()
    ended.read_on()
    steadiness.lost_at = ended.lost_at
    for snapshot in raw.snapshots():
        steadiness.see(snapshot)
    for snapshot in snapshots_every(observer, raw, drill.timing.poll_s):
        check()
        all_read = ended.read_on()
        if no_loss and (first := ended.first_lost):
            what = f"{ended.lost} requests failed {no_loss} (first: {' '.join((first.kind, first.outcome, first.detail)).strip()})"
            raise StoppedAtLoss(what) if stop else NotSteady(what)
        steadiness.lost_at = ended.lost_at
        held, reasons = steadiness.see(snapshot), steadiness.reasons
        if held:
            unread = [] if all_read else ["the load's records could not be read"]
            reasons = unread or steady_state.traffic_not_steady(ended.recent, drill.load)
            if not reasons:
                break
        if snapshot.t - began > drill.steady_state.within_s + drill.timing.before_s:
            raise NotSteady(f"the steady state did not hold: {'; '.join(reasons) or 'there were lost requests again and again'}")
        on_pending(Pending("; ".join(reasons), 99) if held else steadiness.progress(snapshot.t))
    return snapshot


def watch_recovery(
    observer: Observer,
    load: load_job.LoadJob,
    raw: RawEvidence,
    recovery: Recovery,
    follower: Follower,
    check: Callable[[], None],
    on_pending: Callable[[Pending], None],
    on_news: Callable[[str], None],
) -> None:
    """Observe the recovery until `Recovery.over`, and do the faults that follow the first one. `check` is called after every snapshot and
    may raise."""
    for snapshot in snapshots_every(observer, raw, recovery.drill.timing.poll_s):
        check()
        for news in recovery.see(snapshot):
            on_news(news)
        for news in filter(None, (follower.end_surge(recovery.before, recovery.later), follower.see(recovery.before, snapshot))):
            on_news(news)
            recovery.drill, recovery.strikes = follower.drill, follower.note.strikes
        try:
            load.read_on(raw.records)
        except PipelineError as error:  # they are read later, or are missing in the end
            raw.add("note", f"{time.time():.1f} records could not be read: {error}")
        if recovery.over:
            return
        on_pending(recovery.progress())


def kubernetes_events(api: Api, namespace: str, since: float) -> list[Event]:
    """Return the events of Kubernetes in the namespace since then."""
    found = []
    for event in api.items(f"/api/v1/namespaces/{namespace}/events"):
        seen = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
        at = datetime.fromisoformat(seen).timestamp()
        if at >= since:
            what = f"{event.get('reason', 'event')}"
            kind: EventKind = "trouble" if event.get("type") == "Warning" else "note"
            detail = " ".join(event.get("message", "").split())[:300]
            found.append(Event(t=at, what=what, kind=kind, subject=event["involvedObject"].get("name", ""), detail=detail))
    return sorted(found, key=lambda e: e.t)


def note_events(api: Api, subject: Subject, raw: RawEvidence, since: float, warn: Callable[[str], None]) -> None:
    """Write the events of Kubernetes since then into the raw evidence, if they can be read. No verdict depends on them."""
    try:
        for event in kubernetes_events(api, subject.namespace, since):
            raw.add("event", event.model_dump())
    except PipelineError as error:
        warn(f"the events of Kubernetes are missing: {error}")


def note_offset(load: load_job.LoadJob, raw: RawEvidence, warn: Callable[[str], None]) -> None:
    """Write the clock offset into the raw evidence, unless the load does not answer."""
    try:
        raw.add(CLOCK_OFFSET, load_job.clock_offset(load))
    except PipelineError as error:
        warn(f"the load's clock could not be read: {error}")


def events_since(journal: Journal, drill: Drill) -> float:
    """Return from when on an event may belong to the last fault."""
    return journal.started if journal.fault is None or len(journal.faults) == 1 else journal.fault.at - drill.timing.before_s
