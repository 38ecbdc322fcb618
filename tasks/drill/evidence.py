"""Judges a drill, writes its evidence to files, shows it as artifacts and keeps it in the bucket."""

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
from drills.definition import Drill, Series
from drills.evidence import Evidence, make_evidence
from drills.judge import verdict
from drills.kubernetes.api import Api
from drills.observed import Versions
from drills.report import archive
from drills.runner import ray_objects
from drills.runner.journal import Journal
from drills.runner.observer import Observer
from drills.runner.raw_evidence import RawEvidence
from drills.runner.windows import load_of, windows
from drills.series import Early, Row, SeriesEvidence, make_row, make_series
from tasks.aws.account import ensure_state_bucket, upload_folder
from tasks.support.paths import EVIDENCE, ROOT
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

ONCE = Series()
RESULT = "result"
"""Key of the raw evidence: the result of the drill, once all evidence is written."""
LONGEST = 50
"""Characters of a run's name in the name of its folder, which may have 255 bytes; a character has up to four."""


class Result(BaseModel, frozen=True):
    """The result of a drill or a surge."""

    verdict: verdict.Verdict
    headline: str
    folder: Path
    page: str = "report.html"
    """Name of the report in the folder."""

    @property
    def passed(self) -> bool:
        """Whether the service kept its promises."""
        return self.verdict == "passed"


def folder_for(name: str, run: str, root: Path = EVIDENCE) -> Path:
    """Return the folder of the run, which is the same at every call: it has the run's name, and also the id when another run has that name.

    A run may have any name; characters that no folder can have, or that would lead to another folder, become a dash.
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
    """Return the folder with the raw evidence of one attempt of a drill."""
    return folder / "raw" / f"attempt-{journal.attempt}"


def versions(api: Api, service: Service) -> Versions:
    """Return the versions that run there, each empty when it cannot be read: no verdict depends on them."""
    with Observer(api, service.subject) as observer:
        return Versions(
            leeward=_own_version(),
            kubernetes=_or_empty(lambda: str(api.get("/version").get("gitVersion", ""))),
            kuberay=_or_empty(lambda: _operator_image(api)).rpartition(":")[2],
            ray=observer.ray_version(),
            image=_or_empty(lambda: _worker_image(observer)),
        )


def _or_empty(ask: Callable[[], str]) -> str:
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
    """Return the configuration of the run for the evidence; nothing in it is secret."""
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
    """The drill is judged, and its evidence is written and shown; a series has a folder for each fault. Returns the result.

    Args:
        aborted: Why the last fault was not observed to the end, or the first one not done; empty otherwise.
        early: Why the series ended before its last fault.
    """
    api, raw, progress = site.api(), raw_folder(folder, journal), Progress("judging")
    if (result := RawEvidence(raw).last(RESULT)) is not None:  # the run died after everything was written, and was resumed
        return Result.model_validate(result)
    about: dict[str, Any] = {"target": site.target, "run": run_name, "config": config_of(site, service)}
    rows: list[Row] = []
    first: Evidence | None = None
    for number, window in enumerate(windows(raw, journal, drill, versions(api, service), aborted), 1):
        done = series.drill(drill, number)
        judgement = verdict.judge(done, window.observation, window.records)
        found = make_evidence(done, window.observation, window.records, judgement, number=number, total=series.repeat, **about)
        place = folder / f"fault-{number:03}" if series.repeat > 1 else folder
        archive.write(place, found, window.records)
        rows.append(make_row(found, window.own, place.name))
        first = first or found
        progress.show(99 * number / max(1, len(journal.faults)), f"fault {number}: {found.verdict}")
    assert first is not None, "there is a window even where there was no fault"
    if series.repeat == 1:
        result = Result(verdict=first.verdict, headline=first.headline, folder=folder)
        _show(first, result)
    else:
        whole = make_series(first, rows, drill, series, load_of(RawEvidence(raw, len(journal.faults))), early)
        archive.write_series(folder, whole)
        result = Result(verdict=whole.verdict, headline=whole.headline, folder=folder, page=archive.SERIES_PAGE)
        _show_series(whole, result)
    RawEvidence(raw).add(RESULT, result.model_dump(mode="json"))
    RawEvidence(raw).records.unlink(missing_ok=True)  # records.jsonl has them now, and they will not be judged again
    progress.show(100, f"verdict {result.verdict}")
    get_run_logger().info("verdict %s: %s", result.verdict, result.headline)
    return result


@step("keep evidence", deadline_s=1800)
def keep_evidence(site: Site, folder: Path) -> str:
    """The evidence is in the bucket of the stack, where it outlives the cluster; returns its address, empty without AWS."""
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
