"""The stages of a drill: the series of faults under one load, the verdict, the evidence, and the end of the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from prefect import Task, tags
from prefect.client.schemas import State
from prefect.states import Completed, Failed

from blocks.errors import Permanent, PipelineError
from blocks.parameters import Service
from drills.definition import Drill, Series
from drills.runner.faults import NothingToBreak
from drills.runner.journal import Journal
from drills.runner.load_job import LoadFailed
from drills.runner.raw_evidence import RawEvidence
from drills.runner.watch import NotSteady, StoppedAtLoss
from drills.series import Early
from flows.stages import Run, holding_lock
from tasks.debug import collect_debug
from tasks.drill.evidence import ONCE, Result, judge, keep_evidence, raw_folder
from tasks.drill.steps import collect_records, hold_steady, inject_fault, observe_recovery, release_lock, start_load, stop_load, take_lock
from tasks.service.rayservice import check_service, find_images
from tasks.support.progress import Part, Progress
from tasks.support.site import Site

P = ParamSpec("P")
R = TypeVar("R")

OUTCOME = "broken"
"""Key of the series' outcome in the raw evidence."""


def drill(site: Site, service: Service, definition: Drill, run: Run, series: Series = ONCE) -> Result:
    """Do the faults of the series one after the other, and judge them. In any case the load is removed and the lock released.

    An error after the first fault is raised at the end, after the evidence up to then was kept; but recorded losses are a verdict.
    The journal stays open until everything is judged, so that a run that died can be continued with the judgement.
    """
    with tags("stage:drill"):
        journal = take_lock(site, service, run.id, definition.name, time.time())
        folder = raw_folder(run.folder, journal)
        with holding_lock(site, service, run, release_lock) as check:
            try:
                outcome = Outcome.load(folder) or measure(site, service, definition, series, journal, folder, check)
            finally:
                # As a state: an error here must not replace the one that ended the drill. A sweep removes what is left.
                stop_load(site, service, journal, return_state=True)
            result: Result = judge(site, service, outcome.journal, definition, run.folder, run.name, outcome.aborted, series, outcome.early)
        if outcome.error is not None and result.verdict != "failed":
            keep_evidence(site, result.folder, return_state=True)
            raise outcome.error
    return result


def measure(
    site: Site, service: Service, definition: Drill, series: Series, journal: Journal, folder: Path, check: Callable[[], None]
) -> Outcome:
    """Do the faults under load, collect the records of all requests, and save the outcome for a run that only has to judge it."""
    # After a fault there is a verdict in any case, so the service and its load need not be checked.
    if journal.fault is None:
        check_service(site, service)
        start_load(site, service, journal, find_images(site, service).head, definition, series.repeat)
    outcome = do_faults(site, service, definition, series, journal, folder, check)
    if outcome.error is None:
        collect_records(site, service, outcome.journal, definition, folder)
    else:
        collect_records(site, service, outcome.journal, definition, folder, return_state=True)
    outcome.save(folder)
    return outcome


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a series of faults."""

    journal: Journal
    early: Early | None = None
    """Why the series ended before its last fault; None: it did not."""
    aborted: str = ""
    """Why its last fault was not watched to the end, or why the first one was not done; empty otherwise."""
    error: PipelineError | None = None
    """Error that ended the series, to be raised after everything is judged."""

    def save(self, folder: Path) -> None:
        """Save the outcome in the raw evidence, for a run that is continued after all faults are done."""
        early, error = self.early and self.early.model_dump(), f"{type(self.error).__name__}: {self.error}" if self.error else ""
        values = {"journal": self.journal.model_dump(mode="json"), "early": early, "aborted": self.aborted, "error": error}
        RawEvidence(folder).add(OUTCOME, values)

    @classmethod
    def load(cls, folder: Path) -> Outcome | None:
        """Load a saved outcome; None: faults are still to be done or watched."""
        values = RawEvidence(folder).last(OUTCOME)
        if values is None:
            return None
        early, error = values["early"] and Early.model_validate(values["early"]), values["error"] and Permanent(values["error"])
        return cls(Journal.model_validate(values["journal"]), early, values["aborted"], error or None)


def do_faults(
    site: Site, service: Service, definition: Drill, series: Series, journal: Journal, folder: Path, check: Callable[[], None]
) -> Outcome:
    """Do all faults of the series, each in a steady state and watched until the service has recovered; or return why it ended early.

    A retried run continues after the faults in its journal.
    """
    whole = Progress("series") if series.repeat > 1 else None
    if whole:
        whole.show(0, f"fault 1 of {series.repeat}")  # creates the artifact here, so that it belongs to the flow run and not to a task
    outcome = Outcome(journal)
    for number in range(journal.next_fault, series.repeat + 1):
        outcome = _do_fault(site, service, definition, series, outcome.journal, folder, check, number, whole)
        if outcome.early:
            break
    if whole:
        whole.show(100, f"{len(outcome.journal.faults)} of {series.repeat} faults done")
    return outcome


def _do_fault(
    site: Site,
    service: Service,
    definition: Drill,
    series: Series,
    journal: Journal,
    folder: Path,
    check: Callable[[], None],
    number: int,
    whole: Progress | None,
) -> Outcome:
    """Do the fault of that number in a steady state, and watch until the service has recovered."""
    numbered, stop = series.drill(definition, number), series.stop_at_first_loss
    steady, recovery = (whole and Part(whole, number, series.repeat, *share) for share in ((0, 0.2), (0.2, 1)))
    try:
        journal = number_runs(hold_steady, series, number)(site, service, journal, numbered, folder, check, number, stop, steady)
        journal = number_runs(inject_fault, series, number)(site, service, numbered, journal.owner, number)
        recovered = number_runs(observe_recovery, series, number)(site, service, journal, numbered, folder, check, recovery)
    except NotSteady as reason:
        ended_by: Literal["service", "request"] = "request" if isinstance(reason, StoppedAtLoss) else "service"
        return Outcome(journal, Early(reason=str(reason), by=ended_by), "" if journal.fault else str(reason))
    except PipelineError as error:
        if journal.fault is None:
            raise
        watched = len(journal.faults) < number
        by: Literal["service", "measurement"] = "service" if isinstance(error, NothingToBreak) else "measurement"
        # A missing head or a failed load is a result of the drill, not an error of the pipeline.
        result = watched and isinstance(error, NothingToBreak | LoadFailed)
        text = str(error) if result else f"{type(error).__name__}: {error}"
        return Outcome(journal, Early(reason=text, by=by), "" if watched else text, None if result else error)
    if recovered is None and number < series.repeat:
        return Outcome(journal, Early(reason=f"the service did not recover from fault {number}", by="service"))
    return Outcome(journal)


def number_runs(task: Task[P, R], series: Series, number: int) -> Task[P, R]:
    """Return the task; in a series the names of its runs contain the number of the fault."""
    return task.with_options(task_run_name=f"{task.name} {number} of {series.repeat}") if series.repeat > 1 else task


def keep(site: Site, service: Service, result: Result) -> None:
    """Keep the evidence outside the cluster, with a debug bundle unless the drill passed."""
    with tags("stage:drill"):
        if not result.passed:
            # As a state: the evidence is kept even if the bundle takes too long.
            collect_debug(site, service, result.folder, return_state=True)
        keep_evidence(site, result.folder)


def end_state(result: Result) -> State[Result]:
    """The end state of a run, by the verdict of its drill."""
    if result.passed:
        return Completed(message=result.headline, data=result)
    return Failed(name="VerdictFailed", message=f"{result.verdict}: {result.headline} See {result.folder / result.page}")
