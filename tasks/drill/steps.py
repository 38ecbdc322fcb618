"""The steps of a drill as Prefect tasks, thin over drills/runner: lock, load, fault, observation, records."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from prefect import get_run_logger

from blocks.errors import Permanent
from blocks.parameters import Service
from drills.definition import Drill
from drills.kubernetes.api import Api
from drills.observed import Event
from drills.runner import api_key, faults, footprint, load_job
from drills.runner import journal as journals
from drills.runner.journal import Journal, Lock
from drills.runner.load_job import LoadJob
from drills.runner.observer import Observer
from drills.runner.raw_evidence import RawEvidence
from drills.runner.recovery import Recovery
from drills.runner.waiting import Until
from drills.runner.watch import (
    CLOCK_OFFSET,
    FOOTPRINT,
    RECORDS_FROM,
    EndedRequests,
    events_since,
    note_events,
    note_offset,
    watch_before,
    watch_recovery,
)
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step


@step("take drill lock", deadline_s=200)
def take_lock(site: Site, service: Service, owner: str, drill: str, now: float, go_on: bool = True) -> Journal:
    """The run holds the lock of the service; returns the journal to go on with. Loads that another drill has left are removed.

    Args:
        go_on: Whether a retried run resumes its drill; otherwise it begins another attempt.

    Raises:
        InUse: another run holds the lock.
    """
    api = _lock(site, service, owner)
    earlier = journals.read(api, service.subject)
    journal = earlier.continued(owner, drill, now, go_on=go_on) if earlier else Journal(owner=owner, drill=drill, started=now)
    if journal is earlier:
        get_run_logger().info("resuming the drill that this run began: faults so far: %d", len(journal.faults))
    else:
        if earlier and earlier.state == "open":
            get_run_logger().warning("run %s left a drill behind: its load is removed", earlier.owner)
            journals.remove_loads(api, service.subject, earlier.owner)
        journals.remove_loads(api, service.subject, owner)  # an earlier attempt may have ended without doing so
    return journals.write(api, service.subject, journal)


@step("hold drill lock", deadline_s=200)
def hold_lock(site: Site, service: Service, owner: str) -> None:
    """Take the lock of the service and leave the journal as it is.

    Raises:
        InUse: another run holds the lock.
    """
    _lock(site, service, owner)


@step("let go of drill lock", deadline_s=60)
def let_go_of_lock(site: Site, service: Service, owner: str) -> None:
    """Release the lock of the service and leave the journal as it is."""
    Lock(site.api(), service.subject, owner).release()


@step("release drill lock", deadline_s=60)
def release_lock(site: Site, service: Service, owner: str) -> None:
    """Close the journal and release the lock, if they belong to this run."""
    api = site.api()
    journal = journals.read(api, service.subject)
    if journal and journal.owner == owner and journal.state == "open":
        journals.write(api, service.subject, journal.model_copy(update={"state": "closed"}))
    Lock(api, service.subject, owner).release()


def keeping(site: Site, service: Service, owner: str) -> AbstractContextManager[Callable[[], None]]:
    """Return `renewing` for the lock that the run took on a site."""
    return journals.renewing(Lock(site.api(), service.subject, owner))


def _lock(site: Site, service: Service, owner: str) -> Api:
    """Wait until the owner holds the lock of the service; returns the API of its cluster. Raises InUse when another run keeps it."""
    api, progress = site.api(), Progress("drill-lock")
    journals.acquire(api, service.subject, owner, progress.show_pending)
    progress.show(100, "nobody else drills or changes this service")
    return api


@step("start load", deadline_s=900)
def start_load(site: Site, service: Service, journal: Journal, image: str, drill: Drill, repeat: int = 1) -> str:
    """The load sends at its full rate, for as long as so many faults may take; returns the name of its node."""
    api, progress = site.api(), Progress("load")
    load = LoadJob(api, service.subject, journal.load_name)
    api_key.put(api, service.subject.home, site.block.api_key)
    load.start(image, drill.load, load_job.duration(drill, repeat))
    Until("the load to send", load.check_sending, load_job.RUNNING_WITHIN_S, 1.0, progress.show_pending).wait()
    progress.show(100, f"{drill.load.short_per_s:g} requests/s and {drill.load.streams} live streams")
    return load.status().node


@step("stop load", deadline_s=60, retries=2)
def stop_load(site: Site, service: Service, journal: Journal) -> None:
    """The load Job is deleted, in whatever state it was."""
    journals.remove_load(site.api(), service.subject, journal.load_name)


@step("inject fault", deadline_s=60)
def inject_fault(site: Site, service: Service, drill: Drill, owner: str, number: int = 1) -> Journal:
    """The drill's fault of that number is done. A retry finds in the journal what was planned, and finishes that.

    Raises:
        LockLost: another run has the service now; nothing was touched.
    """
    journal = faults.inject_once(site.api(), service.subject, drill.fault, owner, number)
    get_run_logger().info("%s: %s (%s)", drill.title, journal.faults[number - 1].pod, drill.fault.describe())
    return journal


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
    """The steady state held under load before the fault of that number; returns the journal with the last snapshot. `check` may raise.

    Snapshots since the previous fault count: the time after one fault and before the next is the same.

    Raises:
        NotSteady: the steady state did not hold.
    """
    if len(journal.faults) >= number:
        return journal
    api, raw, progress = site.api(), RawEvidence(folder, number - 1), progress or Progress("steady-state")
    load, earlier = LoadJob(api, service.subject, journal.load_name), journal.fault
    no_loss, stop = "before the fault" if earlier is None else "", earlier is not None and stop_at_first_loss
    if stop:
        no_loss = f"after fault {number - 1}, and the series was to stop at the first loss"
    note_offset(load, raw, get_run_logger().warning)
    ended = EndedRequests(load, raw, earlier.at if earlier else float("-inf"), drill.timing.before_s)
    with Observer(api, service.subject) as observer:
        before = watch_before(observer, ended, raw, drill, check, progress.show_pending, no_loss=no_loss, stop=stop)
    progress.show(100, f"steady for {drill.timing.before_s:.0f} s under load")
    return journals.write(api, service.subject, journal.model_copy(update={"before": before}))


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
    """The service was observed from the last fault until some time after it had recovered, or until the time was over; returns when it had
    recovered. The footprint and the events of Kubernetes are read then."""
    assert journal.fault is not None, "the fault comes first"
    assert journal.before is not None, "the fault is done in a steady state only"
    api, raw, progress, at = site.api(), RawEvidence(folder, len(journal.faults)), progress or Progress("recovery"), journal.fault.at
    load = LoadJob(api, service.subject, journal.load_name)
    if raw.last(RECORDS_FROM) is None:
        raw.add(RECORDS_FROM, raw.records.stat().st_size if raw.records.exists() else 0)
    recovery = Recovery(drill, journal.before, at, [s for s in raw.snapshots() if s.t > at])
    with Observer(api, service.subject) as observer:
        watch_recovery(observer, load, raw, recovery, check, progress.show_pending, get_run_logger().info)
        raw.add(FOOTPRINT, footprint.read_footprint(observer).model_dump())
    note_offset(load, raw, get_run_logger().warning)
    note_events(api, service.subject, raw, events_since(journal, drill), get_run_logger().warning)
    recovered = recovery.recovered
    progress.show(100, "not recovered in time" if recovered is None else f"recovered after {recovered - at:.0f} s")
    return recovered


@step("collect records", deadline_s=3000, retries=6)
def collect_records(site: Site, service: Service, journal: Journal, drill: Drill, folder: Path) -> int:
    """The load has ended, and all its records and the events of Kubernetes are in the raw evidence; returns the number of records.

    When the load is gone, the records read so far remain, and the verdict says so.
    """
    api, raw = site.api(), RawEvidence(folder, len(journal.faults))
    load, progress = LoadJob(api, service.subject, journal.load_name), Progress("records")
    try:
        status, offset = load_job.end_load(load, raw.records, drill.load.patience_s, progress.show_pending)
        raw.add(CLOCK_OFFSET, offset)
        raw.add("load", status.model_dump())
    except Permanent as error:
        raw.add(
            "event",
            Event(t=time.time(), what="the load could not be read to its end", kind="trouble", detail=str(error)[:500]).model_dump(),
        )
        get_run_logger().warning("%s", error)
    note_events(api, service.subject, raw, events_since(journal, drill), get_run_logger().warning)
    count = sum(1 for _ in load_job.records_in(raw.records))
    progress.show(100, f"{count} records")
    return count
