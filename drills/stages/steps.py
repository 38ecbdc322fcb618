"""The stages of a drill: lock, load, steady state, fault, recovery, records."""

from __future__ import annotations

import time
from collections.abc import Callable

from blocks.errors import Permanent
from drills.kubernetes.api import Api
from drills.observed import Event
from drills.runner import faults, footprint, load_job
from drills.runner import journal as journals
from drills.runner.journal import Journal, Lock
from drills.runner.load_job import LoadJob, Placement
from drills.runner.raw_evidence import RawEvidence
from drills.runner.recovery import Recovery
from drills.runner.waiting import Until
from drills.runner.watch import (
    CLOCK_OFFSET,
    FOOTPRINT,
    LOAD,
    RECORDS_FROM,
    EndedRequests,
    events_since,
    note_events,
    note_offset,
    watch_before,
    watch_recovery,
)
from drills.stages.run import Display, Progress, Run, stage
from drills.subject import Subject


def lock(api: Api, subject: Subject, owner: str, display: Display) -> Journal | None:
    """Wait until the owner holds the lock of the service, and undo what another run's faults have left; returns the last journal.

    Raises:
        InUse: another run keeps it.
        UndoFailed: something is left that could not be undone. The lock is free again.
    """
    progress = display.progress("drill-lock")
    journals.acquire(api, subject, owner, progress.show_pending)
    earlier = journals.read(api, subject)
    if earlier and earlier.owner != owner:  # else this run goes on with it
        try:
            faults.undo(api, subject, display.say)
        except faults.UndoFailed:
            Lock(api, subject, owner).release()
            raise
    progress.show(100, "nobody else drills or changes this service")
    return earlier


def take(api: Api, subject: Subject, owner: str, drill: str, now: float, display: Display) -> Journal:
    """Hold the lock of the service; returns the journal to go on with. Loads that another drill has left are removed.

    Raises:
        InUse: another run holds the lock.
    """
    earlier = lock(api, subject, owner, display)
    journal = earlier.continued(owner, drill, now) if earlier else Journal(owner=owner, drill=drill, started=now)
    if journal is earlier:
        display.say(f"resuming the drill that this run began: faults so far: {len(journal.faults)}")
    else:
        if earlier and earlier.state == "open":
            display.say(f"run {earlier.owner} left a drill behind: its load is removed", warning=True)
            journals.remove_loads(api, subject, earlier.owner)
        journals.remove_loads(api, subject, owner)  # an earlier attempt may have ended without doing so
        if earlier and earlier.owner == owner:
            faults.undo(api, subject, display.say)
    return journals.write(api, subject, journal)


def release(api: Api, subject: Subject, owner: str) -> None:
    """Close the journal unless it is judged, and release the lock, if they belong to this owner."""
    _end(api, subject, owner, "open", "closed")
    Lock(api, subject, owner).release()


def close(api: Api, subject: Subject, owner: str) -> None:
    """Close the journal of this owner's judged drill: its evidence is kept, and a retried run drills again."""
    _end(api, subject, owner, "judged", "closed")


def _end(api: Api, subject: Subject, owner: str, before: str, after: str) -> None:
    """Change the state of the owner's journal. One with something to undo stays as it is."""
    journal = journals.read(api, subject)
    if journal and journal.owner == owner and journal.state == before and not journal.left:
        journals.write(api, subject, journal.model_copy(update={"state": after}))


@stage("take drill lock", deadline_s=200)
def take_lock(run: Run, now: float) -> Journal:
    """The run holds the lock of the service; see `take`."""
    return take(run.connect(), run.subject, run.owner, run.drill.name, now, run.display)


@stage("end journal", deadline_s=60)
def end_journal(run: Run) -> None:
    """The journal says that the drill is judged: a run that dies before its evidence is kept goes on with the verdict."""
    _end(run.connect(), run.subject, run.owner, "open", "judged")


@stage("release drill lock", deadline_s=60)
def release_lock(run: Run) -> None:
    """The journal is closed unless the drill is judged, and the lock released, if they belong to this run."""
    release(run.connect(), run.subject, run.owner)


@stage("start load", deadline_s=900)
def start_load(run: Run, journal: Journal, placement: Placement) -> str:
    """The load sends at its full rate, for as long as all faults may take; returns the name of its node."""
    load, wanted, progress = LoadJob(run.connect(), run.subject, journal.load_name), run.drill.load, run.display.progress("load")
    load.start(placement, wanted, load_job.duration(run.drill, run.series.repeat), run.template, load_job.LEASE_S)
    Until("the load to send", load.check_sending, load_job.RUNNING_WITHIN_S, 1.0, progress.show_pending).wait()
    status = load.status()
    checks = ", ".join(f"{kind}: {check}" for kind, check in status.checks.items()) or "nothing"
    progress.show(100, f"{wanted.short_per_s:g} requests/s and {wanted.streams} live streams; answers compared by {checks}")
    return status.node


@stage("stop load", deadline_s=60, retries=2)
def stop_load(run: Run, journal: Journal) -> None:
    """The load Job is deleted, in whatever state it was."""
    journals.remove_load(run.connect(), run.subject, journal.load_name)


@stage("undo faults", deadline_s=120, retries=2)
def undo_faults(run: Run) -> list[str]:
    """Nothing lasts of what the drill has done; returns what was undone."""
    return faults.undo(run.connect(), run.subject, run.display.say)


@stage("inject fault", deadline_s=60)
def inject_fault(run: Run, number: int) -> Journal:
    """The fault of that number is done. A retry finds in the journal what was planned, and finishes that.

    Raises:
        LockLost: another run has the service now; nothing was touched.
    """
    drill = run.series.drill(run.drill, number)
    journal = faults.inject_once(run.connect(), run.subject, drill, run.owner, number)
    run.display.say(f"{drill.title}: {journal.faults[number - 1].target} ({drill.fault.describe()})")
    return journal


@stage("steady state", deadline_s=2400)
def hold_steady(run: Run, journal: Journal, number: int, check: Callable[[], None], progress: Progress | None = None) -> Journal:
    """The steady state held under load before the fault of that number; returns the journal with the last snapshot. `check` may raise.

    Snapshots since the previous fault count: the time after one fault and before the next is the same.

    Raises:
        NotSteady: the steady state did not hold.
    """
    if len(journal.faults) >= number:
        return journal
    api, drill, earlier = run.connect(), run.series.drill(run.drill, number), journal.fault
    raw, progress = RawEvidence(run.raw_folder(journal), number - 1), progress or run.display.progress("steady-state")
    load, stop = LoadJob(api, run.subject, journal.load_name), earlier is not None and run.series.stop_at_first_loss
    no_loss = "before the fault" if earlier is None else ""
    if stop:
        no_loss = f"after fault {number - 1}, and the series was to stop at the first loss"
    note_offset(load, raw, run.warn)
    ended = EndedRequests(load, raw, earlier.at if earlier else float("-inf"), drill.timing.before_s)
    with run.observer(api) as observer:
        before = watch_before(observer, ended, raw, drill, check, progress.show_pending, no_loss=no_loss, stop=stop)
    progress.show(100, f"steady for {drill.timing.before_s:.0f} s under load")
    return journals.write(api, run.subject, journal.model_copy(update={"before": before}))


@stage("observe recovery", deadline_s=10_800)
def observe_recovery(
    run: Run, journal: Journal, number: int, check: Callable[[], None], progress: Progress | None = None
) -> tuple[Journal, float | None]:
    """The service was observed from the fault until some time after it had recovered, or until the time was over. Faults that follow were
    done when their moment came, and what lasted was undone. Returns the journal, and when the service had recovered.

    The footprint and the events of Kubernetes are read at the end.
    """
    api, drill = run.connect(), run.series.drill(run.drill, number)
    known = journals.read(api, run.subject)
    if known and known.load_name == journal.load_name:  # a try of this stage before this one may have done more
        journal = known
    assert journal.fault is not None, "the fault comes first"
    assert journal.before is not None, "the fault is done in a steady state only"
    raw, progress = RawEvidence(run.raw_folder(journal), len(journal.faults)), progress or run.display.progress("recovery")
    load = LoadJob(api, run.subject, journal.load_name)
    if raw.last(RECORDS_FROM) is None:
        raw.add(RECORDS_FROM, raw.records.stat().st_size if raw.records.exists() else 0)
    follower = faults.Follower(api, run.subject, drill, journal)
    recovery = Recovery(follower.drill, journal.before, follower.note.strikes, [s for s in raw.snapshots() if s.t > journal.fault.at])
    with run.observer(api) as observer:
        watch_recovery(observer, load, raw, recovery, follower, check, progress.show_pending, run.display.say)
        faults.undo(api, run.subject, run.display.say)
        raw.add(FOOTPRINT, footprint.read_footprint(observer).model_dump())
    note_offset(load, raw, run.warn)
    note_events(api, run.subject, raw, events_since(journal, drill), run.warn)
    recovered = recovery.recovered
    progress.show(100, "not recovered in time" if recovered is None else f"recovered after {recovered - recovery.healed_at:.0f} s")
    return journals.read(api, run.subject) or follower.journal, recovered


@stage("collect records", deadline_s=3000, retries=6)
def collect_records(run: Run, journal: Journal) -> int:
    """The load has ended, and all its records and the events of Kubernetes are in the raw evidence; returns the number of records.

    When the load is gone, the records read so far remain, and the verdict says so.
    """
    api, raw, progress = run.connect(), RawEvidence(run.raw_folder(journal), len(journal.faults)), run.display.progress("records")
    try:
        load = LoadJob(api, run.subject, journal.load_name)
        status, offset = load_job.end_load(load, raw.records, run.drill.load.patience_s, progress.show_pending)
        raw.add(CLOCK_OFFSET, offset)
        raw.add(LOAD, status.model_dump())
    except Permanent as error:
        missing = Event(t=time.time(), what="the load could not be read to its end", kind="trouble", detail=str(error)[:500])
        raw.add("event", missing.model_dump())
        run.warn(str(error))
    note_events(api, run.subject, raw, events_since(journal, run.drill), run.warn)
    count = sum(1 for _ in load_job.records_in(raw.records))
    progress.show(100, f"{count} records")
    return count
