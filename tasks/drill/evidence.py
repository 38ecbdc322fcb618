"""Evidence of a drill: judged, written to files, shown as artifacts, kept in the bucket."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from pydantic import BaseModel

from blocks.errors import PipelineError
from blocks.parameters import Service
from drills import evidence as evidences
from drills import series as serieses
from drills.definition import Drill, Series
from drills.evidence import Evidence
from drills.judge import verdict
from drills.observed import Versions
from drills.report import archive
from drills.series import Early, Row, SeriesEvidence
from tasks.aws.account import ensure_state_bucket, upload_folder
from tasks.drill.journal import Journal
from tasks.drill.raw_evidence import Notebook
from tasks.drill.windows import load_of, windows
from tasks.kubernetes.api import Api
from tasks.service import ray_objects
from tasks.service.observer import Observer
from tasks.support.paths import EVIDENCE, ROOT
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

ONCE = Series()
RESULT = "result"
"""Under this name the first page of an attempt's notebook has how its drill ended, once all evidence is written."""
LONGEST = 50
"""Characters of a run's name in its folder's: of up to four bytes, and a folder's may have 255 of those."""


class Result(BaseModel, frozen=True):
    """How a drill ended."""

    verdict: verdict.Verdict
    headline: str
    folder: Path
    page: str = "report.html"
    """Name of the file in it that a person reads."""

    @property
    def passed(self) -> bool:
        """Whether the service did what it promised."""
        return self.verdict == "passed"


def folder_for(name: str, run: str, root: Path = EVIDENCE) -> Path:
    """The run's folder: by its name, and by its id as well where another run of that name has one. The same at every call.

    A run may be called anything; what no folder can be called, or would lead to another one, becomes a dash.
    """
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:LONGEST] or "run"
    for folder in (root / name, root / f"{name}-{run[:8]}"):
        marker = folder / ".run"
        if not folder.exists() or (marker.exists() and marker.read_text(encoding="utf-8") == run):
            folder.mkdir(parents=True, exist_ok=True)
            marker.write_text(run, encoding="utf-8")
            return folder
    return folder


def raw_folder(folder: Path, journal: Journal) -> Path:
    """Where one attempt of a drill keeps what it sees."""
    return folder / "raw" / f"attempt-{journal.attempt}"


def versions(api: Api, service: Service) -> Versions:
    """What runs there; empty where it does not say, or nobody can be asked: no verdict is lost for that."""
    with Observer(api, service) as observer:
        return Versions(
            leeward=_own_version(),
            kubernetes=_told(lambda: str(api.get("/version").get("gitVersion", ""))),
            kuberay=_told(lambda: _operator_image(api)).rpartition(":")[2],
            ray=observer.ray_version(),
            image=_told(lambda: _worker_image(observer)),
        )


def _told(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except PipelineError:
        return ""


def _operator_image(api: Api) -> str:
    operators = [d for d in api.items("/apis/apps/v1/deployments") if "kuberay-operator" in d["metadata"]["name"]]
    return next((str(c["image"]) for d in operators for c in d["spec"]["template"]["spec"]["containers"]), "")


def _worker_image(observer: Observer) -> str:
    workers = ray_objects.pods_of(observer.pods(), ray_objects.active_cluster(observer.ray_service()), "worker")
    return str(workers[-1]["spec"]["containers"][0]["image"]) if workers else ""


def _own_version() -> str:
    import tomllib

    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def config_of(site: Site, service: Service) -> dict[str, Any]:
    """How the run was configured, for the evidence; nothing in it is secret."""
    return {"service": service.model_dump(mode="json"), "infrastructure": site.infrastructure.model_dump(mode="json")}


@step("judge", deadline_s=7200)
def judge(
    site: Site,
    service: Service,
    journal: Journal,
    drill: Drill,
    folder: Path,
    run_name: str,
    aborted: str = "",
    series: Series = ONCE,
    early: Early | None = None,
) -> Result:
    """The verdict, with its evidence written and shown: of a single fault in the folder itself, of several each in a folder of its own.

    Args:
        aborted: why the drill was stopped before any fault; empty when it was not.
        early: why the series ended before its last fault.
    """
    api, raw, progress = site.api(), raw_folder(folder, journal), Progress("judging")
    if (told := Notebook(raw).last(RESULT)) is not None:  # a run that died when all was written, and came back
        return Result.model_validate(told)
    about: dict[str, Any] = {"target": site.target, "run": run_name, "config": config_of(site, service)}
    rows: list[Row] = []
    first: Evidence | None = None
    for number, window in enumerate(windows(raw, journal, drill, versions(api, service), aborted), 1):
        struck = series.drill(drill, number)
        judgement = verdict.judge(struck, window.observation, window.records)
        found = evidences.of(struck, window.observation, window.records, judgement, number=number, total=series.repeat, **about)
        place = folder / f"fault-{number:03}" if series.repeat > 1 else folder
        archive.write(place, found, window.records)
        rows.append(serieses.row_of(found, window.own, place.name))
        first = first or found
        progress.show(99 * number / max(1, len(journal.faults)), f"fault {number}: {found.verdict}")
    assert first is not None, "there is a window even where there was no fault"
    if series.repeat == 1:
        result = Result(verdict=first.verdict, headline=first.headline, folder=folder)
        _show(first, result)
    else:
        whole = serieses.of(first, rows, drill, series, load_of(Notebook(raw, len(journal.faults))), early)
        archive.write_series(folder, whole)
        result = Result(verdict=whole.verdict, headline=whole.headline, folder=folder, page=archive.SERIES_PAGE)
        _show_series(whole, result)
    Notebook(raw).add(RESULT, result.model_dump(mode="json"))
    Notebook(raw).records.unlink(missing_ok=True)  # records.jsonl has them now, and nobody will judge them again
    progress.show(100, f"verdict {result.verdict}")
    get_run_logger().info("verdict %s: %s", result.verdict, result.headline)
    return result


@step("keep evidence", deadline_s=1800)
def keep_evidence(site: Site, folder: Path) -> str:
    """The evidence is in the stack's bucket, where it outlives the cluster; returns its address, empty without AWS."""
    block = site.block
    if block.aws is None:
        return ""
    session = block.session()
    bucket = ensure_state_bucket(session, site.infrastructure.name)
    upload_folder(session, bucket, f"evidence/{folder.name}", folder)
    address = f"s3://{bucket}/evidence/{folder.name}/"
    create_markdown_artifact(key="evidence-kept", markdown=f"Evidence is kept at `{address}`", description="Evidence in the bucket")
    return address


def _show(found: Evidence, result: Result) -> None:
    _show_verdict(found, result, ("report.html", "evidence.json", "junit.xml", "records.jsonl"))
    kept = {"kept": "yes", "missed": "NO", "in doubt": "in doubt"}
    table = [{"promise": s.name, "limit": s.target, "seen": s.actual, "kept": kept[s.standing], "doubt": s.doubted} for s in found.slos]
    if table:
        create_table_artifact(key="slos", table=table, description=f"{sum(s.standing == 'kept' for s in found.slos)} of {len(table)} kept")
    _show_page(result, "The drill in one picture")


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
    _show_page(result, "The series on one page")


def _show_verdict(found: Evidence | SeriesEvidence, result: Result, names: tuple[str, ...]) -> None:
    reasons = "".join(f"- {reason}\n" for reason in found.why)
    files = "".join(f"- `{result.folder / name}`\n" for name in names)
    create_markdown_artifact(
        key="verdict", markdown=f"# {found.verdict}\n\n{found.headline}\n\n{reasons}\n{files}", description=found.headline
    )


def _show_page(result: Result, what: str) -> None:
    create_link_artifact(key="report", link=(result.folder / result.page).as_uri(), link_text=result.page, description=what)
