"""The stages of a drill in a flow, over drills/stages: the drill itself, its evidence in the bucket, and the end state of the run."""

from __future__ import annotations

from prefect import tags
from prefect.client.schemas import State
from prefect.states import Completed, Failed

from blocks.parameters import Service
from drills.definition import Drill, Series
from drills.stages import drill as stages
from drills.stages.drill import Broken
from drills.stages.run import ONCE, Result
from flows.stages import Run
from tasks.debug import collect_debug
from tasks.drill.evidence import keep_evidence
from tasks.drill.steps import close_journal, run_of
from tasks.support.site import Site


def drill(site: Site, service: Service, definition: Drill, run: Run, series: Series = ONCE) -> Result:
    """Do the faults of the series, and judge them. An error after the first fault is raised after the evidence up to then was kept."""
    with tags("stage:drill"):
        try:
            return stages.drill(run_of(site, service, definition, run.id, run.name, run.folder, series))
        except Broken as broken:
            keep_evidence(site, broken.result.folder, return_state=True)
            raise broken.error from None


def keep(site: Site, service: Service, result: Result, run: Run) -> None:
    """Keep the evidence outside the cluster, with a debug bundle unless the drill passed. A run that is retried before that is done
    only does that."""
    with tags("stage:drill"):
        if not result.passed:
            # As a state: the evidence is kept even if the bundle takes too long.
            collect_debug(site, service, result.folder, return_state=True)
        keep_evidence(site, result.folder)
        close_journal(site, service, run.id, return_state=True)


def end_state(result: Result) -> State[Result]:
    """The end state of a run, by the verdict of its drill."""
    if result.passed:
        return Completed(message=result.headline, data=result)
    return Failed(name="VerdictFailed", message=f"{result.verdict}: {result.headline} See {result.folder / result.page}")
