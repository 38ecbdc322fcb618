"""A drill's stages as Prefect tasks, shown in the Prefect UI; and the drill lock for flows that change a service."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from prefect import Task, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from blocks.parameters import Service
from drills.definition import Drill, Series
from drills.evidence import Evidence
from drills.kubernetes import node_labels
from drills.kubernetes.api import Api
from drills.report import archive
from drills.runner import api_key
from drills.runner import journal as journals
from drills.runner.journal import Journal, Lock
from drills.runner.load_job import Placement, head_image
from drills.runner.observer import Observer
from drills.series import SeriesEvidence
from drills.stages import steps
from drills.stages.run import ONCE, Result, Run, Stage
from tasks.service.rayservice import check_service
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

R = TypeVar("R")


class Ui:
    """The Prefect UI as the display of a run: progress artifacts, the run's log, and the verdict as artifacts."""

    def progress(self, key: str) -> Progress:
        """Return a progress artifact."""
        return Progress(key)

    def say(self, text: str, *, warning: bool = False) -> None:
        """Write a line to the run's log."""
        logger = get_run_logger()
        (logger.warning if warning else logger.info)("%s", text)

    def judged(self, found: Evidence | SeriesEvidence, result: Result) -> None:
        """Show the verdict of a drill or of a series."""
        if isinstance(found, Evidence):
            _show_drill(found, result)
        else:
            _show_series(found, result)


def as_task(stage: Stage[..., R], name: str, work: Callable[[], R]) -> R:
    """Execute a stage of a drill as a Prefect task of that name."""

    def task() -> R:
        return work()

    return step(stage.name, stage.deadline_s, stage.retries)(task).with_options(task_run_name=name)()


def run_of(site: Site, service: Service, definition: Drill, owner: str, name: str, folder: Path, series: Series = ONCE) -> Run:
    """Return a drill of a service that this pipeline deployed, as a run of tasks."""

    def prepare() -> Placement:
        check_service(site, service)
        api_key.put(site.api(), service.subject.home, site.block.api_key)
        return placement(site.api(), service)

    return Run(
        subject=service.subject,
        drill=definition,
        owner=owner,
        name=name,
        folder=folder,
        connect=site.api,
        prepare=prepare,
        display=Ui(),
        execute=as_task,
        series=series,
        target=site.target,
        config=config_of(site, service),
    )


def placement(api: Api, service: Service) -> Placement:
    """Return where the load of a service that this pipeline deployed runs: in its head's image, on the nodes that have no model."""
    with Observer(api, service.subject) as observer:
        return Placement(image=head_image(observer), node_selector={node_labels.POOL: node_labels.CORE})


def config_of(site: Site, service: Service) -> dict[str, object]:
    """Return the configuration of the run for the evidence; nothing in it is secret."""
    return {"service": service.model_dump(mode="json"), "infrastructure": site.infrastructure.model_dump(mode="json")}


@step("take drill lock", deadline_s=200)
def take_lock(site: Site, service: Service, owner: str, drill: str, now: float) -> Journal:
    """The run holds the lock of the service; returns the journal to go on with. See drills.stages.steps.take."""
    return steps.take(site.api(), service.subject, owner, drill, now, Ui())


@step("hold drill lock", deadline_s=200)
def hold_lock(site: Site, service: Service, owner: str) -> None:
    """Take the lock of the service and leave the journal as it is.

    Raises:
        InUse: another run holds the lock.
    """
    steps.lock(site.api(), service.subject, owner, Ui())


@step("let go of drill lock", deadline_s=60)
def let_go_of_lock(site: Site, service: Service, owner: str) -> None:
    """Release the lock of the service and leave the journal as it is."""
    Lock(site.api(), service.subject, owner).release()


@step("release drill lock", deadline_s=60)
def release_lock(site: Site, service: Service, owner: str) -> None:
    """Close the journal and release the lock, if they belong to this run."""
    steps.release(site.api(), service.subject, owner)


@step("close journal", deadline_s=60)
def close_journal(site: Site, service: Service, owner: str) -> None:
    """Close the journal of the run's judged drill: its evidence is kept."""
    steps.close(site.api(), service.subject, owner)


def holding_lock(
    site: Site, service: Service, owner: str, release: Task[[Site, Service, str], None]
) -> AbstractContextManager[Callable[[], None]]:
    """Return a context that renews the lock that the run took on a site, and releases it by that task. It yields a check that raises
    LockLost once another run has the lock."""
    # As a state: an error in it must not replace the one that ended the work.
    return journals.holding(Lock(site.api(), service.subject, owner), lambda: release(site, service, owner, return_state=True))


def _show_drill(found: Evidence, result: Result) -> None:
    _show_verdict(found, result, ("report.html", "evidence.json", "junit.xml", "records.jsonl"))
    kept = {"kept": "yes", "missed": "NO", "in doubt": "in doubt"}
    table = [{"promise": s.name, "limit": s.target, "seen": s.actual, "kept": kept[s.standing], "doubt": s.doubted} for s in found.slos]
    if table:
        create_table_artifact(key="slos", table=table, description=f"{sum(s.standing == 'kept' for s in found.slos)} of {len(table)} kept")
    show_page(result, "The drill in one picture")


def _show_series(whole: SeriesEvidence, result: Result) -> None:
    _show_verdict(whole, result, (archive.SERIES_PAGE, "series.json", "junit.xml"))
    table = [
        {
            "fault": row.number,
            "grace": row.grace,
            "verdict": row.verdict,
            "recovery s": row.recovery_s,
            "requests lost": row.requests.lost,
            "streams lost": row.streams.lost,
            "longest silence s": row.longest_silence_s,
            "workers touched": row.workers_touched,
        }
        for row in whole.faults
    ]
    create_table_artifact(key="faults", table=table, description=f"{whole.lossy.lossy} of {whole.lossy.of} with anything lost")
    show_page(result, "The series on one page")


def _show_verdict(found: Evidence | SeriesEvidence, result: Result, names: tuple[str, ...]) -> None:
    reasons = "".join(f"- {reason}\n" for reason in found.why)
    files = "".join(f"- `{result.folder / name}`\n" for name in names)
    create_markdown_artifact(
        key="verdict", markdown=f"# {found.verdict}\n\n{found.headline}\n\n{reasons}\n{files}", description=found.headline
    )


def show_page(result: Result, what: str) -> None:
    """Show a link to the report."""
    create_link_artifact(key="report", link=(result.folder / result.page).as_uri(), link_text=result.page, description=what)
