"""The looking part of a drill: steady state before the fault, recovery after it, and the load's last records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from prefect import get_run_logger

from blocks.errors import Permanent, PipelineError
from blocks.parameters import Service
from drills.definition import Drill
from drills.judge import steady_state
from drills.judge.traffic import on_observers_clock
from drills.observed import Event, Snapshot
from serving.records import Record
from tasks.drill import journal as journals
from tasks.drill import load_job, vitals
from tasks.drill.journal import Journal
from tasks.drill.raw_evidence import Notebook
from tasks.drill.recovery import Recovery, Steadiness
from tasks.kubernetes.api import Api, Refused, Unavailable
from tasks.service.observer import Observer
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

STEADY_WITHIN_S = 120.0
"""Beyond the time it must hold; a service that was just deployed settles within seconds."""
API_AWAY_S = 60.0
"""The API server may be away for so long in a drill; longer, and nothing more can be said."""
RECORDS_FROM = "records_from"
"""Under this name a page of the notebook has the byte of the records' file behind which those lie that ended after its fault."""
CLOCK_OFFSET = "clock_offset"
VITALS = "vitals"


class NotSteady(Permanent):
    """The steady state does not hold before a fault, which is therefore not done: a drill is aborted, a series ends."""


class StoppedAtLoss(NotSteady):
    """A request was lost, and the series was to stop then: it ends because that was asked for."""


def looks(observer: Observer, notebook: Notebook, every_s: float, clock: Callable[[], float] = time.time) -> Iterator[Snapshot]:
    """A snapshot every so many seconds, each written down; without end.

    Raises:
        Unavailable, Refused: the API server was away for longer than API_AWAY_S. One that starts again refuses for a moment what it allows.
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
            notebook.snapshot(snapshot)
            yield snapshot
        time.sleep(max(0.05, every_s - (clock() - begun)))


class Ended:
    """The requests that have ended since the last fault, on the observer's clock, as they are read."""

    def __init__(self, load: load_job.Load, notebook: Notebook, since: float, keep_s: float) -> None:
        self._load, self._notebook, self._since, self._keep_s = load, notebook, since, keep_s
        self._unread = load_job.Unread(notebook.records, notebook.last(RECORDS_FROM, 0))
        self._offset = float(notebook.last(CLOCK_OFFSET, 0.0))
        self.lately: list[Record] = []
        """The requests that ended in the last `keep_s` seconds."""
        self.lost = 0
        self.first_lost: Record | None = None
        self.lost_at = float("-inf")
        """When the last request ended that was lost."""
        self._answered = time.time()

    def read_on(self) -> bool:
        """Reads what the load has written down until now; False when it cannot be had now, so that nobody knows whether anything was lost.

        Raises:
            LoadFailed: the load is gone.
            Unavailable, Refused: its records could not be had for longer than API_AWAY_S.
        """
        try:
            self._load.read_on(self._notebook.records)
        except (Unavailable, Refused):
            if time.time() - self._answered > API_AWAY_S:
                raise
            return False
        self._answered = time.time()
        found = [r for r in on_observers_clock(self._unread.records(), self._offset) if r.end >= self._since]
        lost = [r for r in found if not r.ok]
        self.lost += len(lost)
        self.first_lost = self.first_lost or next(iter(lost), None)
        self.lost_at = max([self.lost_at, *(r.end for r in lost)])
        both = self.lately + found
        latest = max((r.end for r in both), default=0.0)
        self.lately = [r for r in both if r.end >= latest - self._keep_s]
        return True


def watch_before(
    observer: Observer,
    ended: Ended,
    notebook: Notebook,
    drill: Drill,
    check: Callable[[], None],
    progress: Progress,
    *,
    no_loss: str = "",
    stop: bool = False,
) -> Snapshot:
    """The steady state held under load for the whole of `before_s`, what the notebook has of it included, and no request was lost
    meanwhile; returns the last snapshot. `check` is asked at every look and may end it by an error.

    Args:
        no_loss: where any loss at all ends it: the words that say when none may be. Empty: after a loss the time begins anew.
        stop: whether that end was asked for, and says nothing of the service.

    Raises:
        NotSteady: it did not; says why.
    """
    steadiness, began = Steadiness(drill), time.time()
    ended.read_on()
    steadiness.lost_at = ended.lost_at
    for snapshot in notebook.snapshots():
        steadiness.see(snapshot)
    for snapshot in looks(observer, notebook, drill.timing.poll_s):
        check()
        all_read = ended.read_on()
        if no_loss and (first := ended.first_lost):
            what = f"{ended.lost} requests failed {no_loss} (first: {first.kind} {first.outcome} {first.detail})".replace(" )", ")")
            raise StoppedAtLoss(what) if stop else NotSteady(what)
        steadiness.lost_at = ended.lost_at
        held, reasons = steadiness.see(snapshot), steadiness.reasons
        if held:
            unread = [] if all_read else ["the load's records could not be read"]
            reasons = unread or steady_state.judge_traffic(ended.lately, drill.load)
            if not reasons:
                break
        if snapshot.t - began > STEADY_WITHIN_S + drill.timing.before_s:
            raise NotSteady(f"the steady state did not hold: {'; '.join(reasons) or 'there were lost requests again and again'}")
        progress.show_pending(steadiness.progress(snapshot.t))
    return snapshot


def watch_recovery(
    observer: Observer, load: load_job.Load, notebook: Notebook, recovery: Recovery, check: Callable[[], None], progress: Progress
) -> None:
    """The recovery was watched until it was over; `check` is asked at every look and may end it by an error."""
    logger = get_run_logger()
    for snapshot in looks(observer, notebook, recovery.drill.timing.poll_s):
        check()
        for news in recovery.see(snapshot):
            logger.info("%s", news)
        _read_on(load, notebook)
        if recovery.over:
            return
        progress.show_pending(recovery.progress())


def _read_on(load: load_job.Load, notebook: Notebook) -> None:
    """Reads what there is; what fails now is read later, or missing then."""
    try:
        load.read_on(notebook.records)
    except PipelineError as error:
        notebook.add("note", f"{time.time():.1f} records could not be read: {error}")


def kubernetes_events(api: Api, namespace: str, since: float) -> list[Event]:
    """What Kubernetes reported in the namespace since then."""
    found = []
    for event in api.items(f"/api/v1/namespaces/{namespace}/events"):
        at = _seconds(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
        if at >= since:
            what = f"{event.get('reason', 'event')}"
            kind = "trouble" if event.get("type") == "Warning" else "note"
            detail = " ".join(event.get("message", "").split())[:300]
            found.append(
                Event.model_validate(
                    {"t": at, "what": what, "kind": kind, "subject": event["involvedObject"].get("name", ""), "detail": detail}
                )
            )
    return sorted(found, key=lambda e: e.t)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _note_events(api: Api, service: Service, notebook: Notebook, since: float) -> None:
    """What Kubernetes reported since then is in the notebook; no verdict hangs on it."""
    try:
        for event in kubernetes_events(api, service.namespace, since):
            notebook.add("event", event.model_dump())
    except Permanent as error:
        get_run_logger().warning("what Kubernetes reported is missing: %s", error)


def _note_offset(load: load_job.Load, notebook: Notebook) -> None:
    """The load's clock was compared with ours, unless the load does not answer."""
    try:
        notebook.add(CLOCK_OFFSET, load_job.clock_offset(load))
    except PipelineError as error:
        get_run_logger().warning("the load's clock could not be read: %s", error)


@step("steady state", deadline_s=2400)
def hold_steady(
    site: Site,
    service: Service,
    journal: Journal,
    drill: Drill,
    folder: Path,
    check: Callable[[], None],
    number: int = 1,
    stop_at_first_loss: bool = False,
    progress: Progress | None = None,
) -> Journal:
    """The steady state held under load before the fault of that number; the journal has what was seen last. `check` may end it by an error.

    What was seen since the fault before counts: the calm after one fault and before the next are the same.

    Raises:
        NotSteady: it did not.
    """
    if len(journal.faults) >= number:
        return journal
    api, notebook, progress = site.api(), Notebook(folder, number - 1), progress or Progress("steady-state")
    load, earlier = load_job.Load(api, journal.load_name), journal.fault
    no_loss, stop = "before the fault" if earlier is None else "", earlier is not None and stop_at_first_loss
    if stop:
        no_loss = f"after fault {number - 1}, and the series was to stop at the first loss"
    _note_offset(load, notebook)
    ended = Ended(load, notebook, earlier.at if earlier else float("-inf"), drill.timing.before_s)
    with Observer(api, service) as observer:
        before = watch_before(observer, ended, notebook, drill, check, progress, no_loss=no_loss, stop=stop)
    progress.show(100, f"steady for {drill.timing.before_s:.0f} s under load")
    return journals.write(api, service, journal.model_copy(update={"before": before}))


@step("observe recovery", deadline_s=5700)
def observe_recovery(
    site: Site,
    service: Service,
    journal: Journal,
    drill: Drill,
    folder: Path,
    check: Callable[[], None],
    progress: Progress | None = None,
) -> float | None:
    """The service was watched from the last fault until it had recovered and for a while longer, or until the time was over; returns when
    it had. What else is to be known of this fault is noted then."""
    assert journal.fault is not None, "the fault comes first"
    assert journal.before is not None, "the fault is done in a steady state only"
    api, notebook, progress, at = site.api(), Notebook(folder, len(journal.faults)), progress or Progress("recovery"), journal.fault.at
    load = load_job.Load(api, journal.load_name)
    if notebook.last(RECORDS_FROM) is None:
        notebook.add(RECORDS_FROM, notebook.records.stat().st_size if notebook.records.exists() else 0)
    recovery = Recovery(drill, journal.before, at, [s for s in notebook.snapshots() if s.t > at])
    with Observer(api, service) as observer:
        watch_recovery(observer, load, notebook, recovery, check, progress)
        notebook.add(VITALS, vitals.seen(observer).model_dump())
    _note_offset(load, notebook)
    _note_events(api, service, notebook, _since(journal, drill))
    recovered = recovery.recovered
    progress.show(100, "not recovered in time" if recovered is None else f"recovered after {recovered - at:.0f} s")
    return recovered


def _since(journal: Journal, drill: Drill) -> float:
    """From when on what happened may belong to the last fault."""
    return journal.started if journal.fault is None or len(journal.faults) == 1 else journal.fault.at - drill.timing.before_s


@step("collect records", deadline_s=3000, retries=6)
def collect_records(site: Site, service: Service, journal: Journal, drill: Drill, folder: Path) -> int:
    """The load has ended and its records are all here, as well as what Kubernetes reported; returns the number of records.

    A load that is gone leaves the records read so far; the verdict then says so.
    """
    api, notebook = site.api(), Notebook(folder, len(journal.faults))
    load, progress = load_job.Load(api, journal.load_name), Progress("records")
    try:
        status, offset = load_job.ended(load, notebook.records, drill.load.patience_s, progress.show_pending)
        notebook.add(CLOCK_OFFSET, offset)
        notebook.add("load", status.model_dump())
    except Permanent as error:
        notebook.add(
            "event",
            Event(t=time.time(), what="the load could not be read to its end", kind="trouble", detail=str(error)[:500]).model_dump(),
        )
        get_run_logger().warning("%s", error)
    _note_events(api, service, notebook, _since(journal, drill))
    count = sum(1 for _ in load_job.records_in(notebook.records))
    progress.show(100, f"{count} records")
    return count
