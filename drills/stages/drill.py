"""The whole drill: the series of faults under one load, from the lock to the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blocks.errors import Permanent, PipelineError
from drills.runner import journal as journals
from drills.runner.acts.act import NothingToBreak
from drills.runner.journal import Journal, Lock
from drills.runner.load_job import LoadFailed
from drills.runner.raw_evidence import RawEvidence
from drills.runner.watch import NotSteady, StoppedAtLoss
from drills.series import Early
from drills.stages import steps
from drills.stages.judging import judge
from drills.stages.run import Part, Progress, Result, Run

OUTCOME = "broken"
"""Key of the series' outcome in the raw evidence."""


def drill(run: Run) -> Result:
    """Do the faults of the series one after the other, and judge them. In any case the load is removed and the lock released.

    The journal stays open until everything is judged, so that a run that died can be continued with the judgement; the caller closes it
    once the evidence is kept.

    Raises:
        Broken: an error ended the drill after the first fault. Everything up to then was judged, and the evidence is written. Recorded
            losses are a verdict instead.
    """
    journal = run.do(steps.take_lock, time.time())
    folder = run.raw_folder(journal)
    with journals.holding(Lock(run.connect(), run.subject, run.owner), lambda: run.attempt(steps.release_lock)) as check:
        try:
            outcome = Outcome.load(folder) or measure(run, journal, folder, check)
        finally:
            run.attempt(steps.undo_faults)  # a sweep undoes and removes what is left
            run.attempt(steps.stop_load, journal)
        result = run.do(judge, outcome.journal, outcome.aborted, outcome.early)
        if outcome.error is not None and result.verdict != "failed":
            raise Broken(result, outcome.error)
        run.attempt(steps.end_journal)
    return result


class Broken(Exception):
    """An error ended a drill after its first fault; `result` is the verdict on everything up to then."""

    def __init__(self, result: Result, error: PipelineError) -> None:
        super().__init__(str(error))
        self.result, self.error = result, error


def measure(run: Run, journal: Journal, folder: Path, check: Callable[[], None]) -> Outcome:
    """Do the faults under load, collect the records of all requests, and save the outcome for a run that only has to judge it."""
    # After a fault there is a verdict in any case, so the service and its load need not be checked.
    if journal.fault is None:
        run.do(steps.start_load, journal, run.prepare())
    outcome = do_faults(run, journal, check)
    (run.do if outcome.error is None else run.attempt)(steps.collect_records, outcome.journal)
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


def do_faults(run: Run, journal: Journal, check: Callable[[], None]) -> Outcome:
    """Do all faults of the series, each in a steady state and watched until the service has recovered; or return why it ended early.

    A resumed run continues after the faults in its journal.
    """
    repeat = run.series.repeat
    whole = run.display.progress("series") if repeat > 1 else None
    if whole:
        whole.show(0, f"fault 1 of {repeat}")  # makes it a part of the run here, and not of a stage
    outcome = Outcome(journal)
    for number in range(journal.next_fault, repeat + 1):
        outcome = _do_fault(run, outcome.journal, check, number, whole)
        if outcome.early:
            break
    if whole:
        whole.show(100, f"{len(outcome.journal.faults)} of {repeat} faults done")
    return outcome


def _do_fault(run: Run, journal: Journal, check: Callable[[], None], number: int, whole: Progress | None) -> Outcome:
    """Do the fault of that number in a steady state, and watch until the service has recovered."""
    repeat = run.series.repeat
    steady, recovery = (whole and Part(whole, number, repeat, *share) for share in ((0, 0.2), (0.2, 1)))
    try:
        journal = run.do_for(number, steps.hold_steady, journal, number, check, steady)
        journal = run.do_for(number, steps.inject_fault, number)
        journal, recovered = run.do_for(number, steps.observe_recovery, journal, number, check, recovery)
    except NotSteady as reason:
        ended_by: Literal["service", "request"] = "request" if isinstance(reason, StoppedAtLoss) else "service"
        return Outcome(journal, Early(reason=str(reason), by=ended_by), "" if journal.fault else str(reason))
    except PipelineError as error:
        if journal.fault is None:
            raise
        watched = len(journal.faults) < number
        by: Literal["service", "measurement"] = "service" if isinstance(error, NothingToBreak) else "measurement"
        # A missing head or a failed load is a result of the drill, not an error of the run.
        result = watched and isinstance(error, NothingToBreak | LoadFailed)
        text = str(error) if result else f"{type(error).__name__}: {error}"
        return Outcome(journal, Early(reason=text, by=by), "" if watched else text, None if result else error)
    if recovered is None and number < repeat:
        return Outcome(journal, Early(reason=f"the service did not recover from fault {number}", by="service"))
    return Outcome(journal)
