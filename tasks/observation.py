"""The looking part of a drill: steady state before the fault, recovery after it, and the load's last records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from prefect import get_run_logger

from blocks.errors import Permanent, PipelineError
from blocks.parameters import Service
from drills import steady_state
from drills.definition import Drill
from drills.observation import Event, Snapshot
from tasks import journal as journals
from tasks import traffic
from tasks._recovery import Recovery, Steadiness
from tasks.journal import Journal
from tasks.kubernetes import Api
from tasks.notebook import Notebook
from tasks.observer import Observer
from tasks.progress import Progress
from tasks.site import Site
from tasks.step import step

STEADY_WITHIN_S = 120.0
"""Beyond the time it must hold; a service that was just deployed settles within seconds."""
API_AWAY_S = 60.0
"""The API server may be away for so long in a drill; longer, and nothing more can be said."""


class NotSteady(Permanent):
    """The steady state does not hold before the fault: nothing is broken, the drill is aborted."""


def looks(observer: Observer, notebook: Notebook, every_s: float, clock: Callable[[], float] = time.time) -> Iterator[Snapshot]:
    """A snapshot every so many seconds, each written down; without end.

    Raises:
        Unavailable, Refused: the API server was away for longer than API_AWAY_S. One that starts again refuses for a moment what it allows.
    """
    answered = clock()
    while True:
        begun = clock()
        try:
            snapshot = observer.look()
        except PipelineError:
            if clock() - answered > API_AWAY_S:
                raise
        else:
            answered = clock()
            notebook.snapshot(snapshot)
            yield snapshot
        time.sleep(max(0.05, every_s - (clock() - begun)))


def watch_before(
    observer: Observer, load: traffic.Load, notebook: Notebook, drill: Drill, check: Callable[[], None], progress: Progress
) -> Snapshot:
    """The steady state held under load for the whole of `before_s`; returns the last snapshot. `check` is asked at every look and may end
    it by an error.

    Raises:
        NotSteady: it did not; says why.
    """
    steadiness, began = Steadiness(drill), time.time()
    for snapshot in looks(observer, notebook, drill.timing.poll_s):
        check()
        held = steadiness.see(snapshot)
        load.read_on(notebook.records)
        if held:
            break
        if snapshot.t - began > STEADY_WITHIN_S + drill.timing.before_s:
            raise NotSteady(f"before the fault: {'; '.join(steadiness.reasons) or 'the steady state did not hold for long enough'}")
        progress.look(steadiness.progress(snapshot.t))
    if reasons := steady_state.judge_traffic(traffic.records_in(notebook.records), drill.load):
        raise NotSteady("; ".join(reasons))
    return snapshot


def watch_recovery(
    observer: Observer, load: traffic.Load, notebook: Notebook, recovery: Recovery, check: Callable[[], None], progress: Progress
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
        progress.look(recovery.progress())


def _read_on(load: traffic.Load, notebook: Notebook) -> None:
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


@step("steady state", deadline_s=2400)
def hold_steady(site: Site, service: Service, journal: Journal, drill: Drill, folder: Path, check: Callable[[], None]) -> Journal:
    """The steady state held under load before the fault; the journal has what was seen last. `check` may end it by an error.

    Raises:
        NotSteady: it did not.
    """
    if journal.fault is not None:
        return journal
    api, notebook, progress = site.api(), Notebook(folder), Progress("steady-state")
    with Observer(api, service) as observer:
        before = watch_before(observer, traffic.Load(api, journal.load_name), notebook, drill, check, progress)
    progress.say(100, f"steady for {drill.timing.before_s:.0f} s under load")
    return journals.write(api, service, journal.model_copy(update={"before": before}))


@step("observe recovery", deadline_s=5700)
def observe_recovery(site: Site, service: Service, journal: Journal, drill: Drill, folder: Path, check: Callable[[], None]) -> float | None:
    """The service was watched until it had recovered and for a while longer, or until the time was over."""
    assert journal.fault is not None, "the fault comes first"
    assert journal.before is not None, "the fault is done in a steady state only"
    api, notebook, progress, at = site.api(), Notebook(folder), Progress("recovery"), journal.fault.at
    recovery = Recovery(drill, journal.before, at, [s for s in notebook.snapshots() if s.t > at])
    with Observer(api, service) as observer:
        watch_recovery(observer, traffic.Load(api, journal.load_name), notebook, recovery, check, progress)
    recovered = recovery.recovered
    progress.say(100, "not recovered in time" if recovered is None else f"recovered after {recovered - at:.0f} s")
    return recovered


@step("collect records", deadline_s=3000, retries=6)
def collect_records(site: Site, service: Service, journal: Journal, drill: Drill, folder: Path) -> int:
    """The load has ended and its records are all here, as well as what Kubernetes reported; returns the number of records.

    A load that is gone leaves the records read so far; the verdict then says so.
    """
    api, notebook = site.api(), Notebook(folder)
    load, progress = traffic.Load(api, journal.load_name), Progress("records")
    try:
        status, offset = traffic.ended(load, notebook.records, drill.load.patience_s, progress.look)
        notebook.add("clock_offset", offset)
        notebook.add("load", status.model_dump())
    except Permanent as error:
        notebook.add(
            "event",
            Event(t=time.time(), what="the load could not be read to its end", kind="trouble", detail=str(error)[:500]).model_dump(),
        )
        get_run_logger().warning("%s", error)
    try:
        for event in kubernetes_events(api, service.namespace, journal.started):
            notebook.add("event", event.model_dump())
    except Permanent as error:  # no verdict hangs on them
        get_run_logger().warning("what Kubernetes reported is missing: %s", error)
    count = len(traffic.records_in(notebook.records))
    progress.say(100, f"{count} records")
    return count
