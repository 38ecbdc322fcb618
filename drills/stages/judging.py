"""The judgement of a drill: the evidence of every fault, the verdict, and the files with both."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import tomllib

from drills.evidence import Evidence, make_evidence
from drills.judge import verdict
from drills.kubernetes.api import Api
from drills.observed import Versions
from drills.report import archive
from drills.runner.journal import Journal
from drills.runner.observer import Observer, or_none
from drills.runner.raw_evidence import RawEvidence
from drills.runner.windows import load_of, windows
from drills.series import Early, Row, SeriesEvidence, make_row, make_series
from drills.stages.run import Result, Run, stage
from drills.subject import Subject

RESULT = "result"
"""Key of the raw evidence: the result of the drill, once all evidence is written."""


@stage("judge", deadline_s=7200)
def judge(run: Run, journal: Journal, aborted: str = "", early: Early | None = None) -> Result:
    """The drill is judged, and its evidence is written and shown; a series has a folder for each fault. Returns the result.

    Args:
        aborted: Why the last fault was not observed to the end, or the first one not done; empty otherwise.
        early: Why the series ended before its last fault.
    """
    raw, progress, series = run.raw_folder(journal), run.display.progress("judging"), run.series
    if (result := RawEvidence(raw).last(RESULT)) is not None:  # the run died after everything was written, and was resumed
        return Result.model_validate(result)
    about: dict[str, Any] = {"target": run.target, "run": run.name, "config": run.config}
    rows: list[Row] = []
    first: Evidence | None = None
    for number, window in enumerate(windows(raw, journal, run.drill, versions(run.connect(), run.subject), aborted), 1):
        done = series.drill(run.drill, number)
        judgement = verdict.judge(done, window.observation, window.records)
        found = make_evidence(done, window.observation, window.records, judgement, number=number, total=series.repeat, **about)
        place = run.folder / f"fault-{number:03}" if series.repeat > 1 else run.folder
        archive.write(place, found, window.records)
        rows.append(make_row(found, window.own, place.name))
        first = first or found
        progress.show(99 * number / max(1, len(journal.faults)), f"fault {number}: {found.verdict}")
    assert first is not None, "there is a window even where there was no fault"
    whole: Evidence | SeriesEvidence = first
    result = Result(verdict=first.verdict, headline=first.headline, folder=run.folder)
    if series.repeat > 1:
        whole = make_series(first, rows, run.drill, series, load_of(RawEvidence(raw, len(journal.faults))), early)
        archive.write_series(run.folder, whole)
        result = Result(verdict=whole.verdict, headline=whole.headline, folder=run.folder, page=archive.SERIES_PAGE)
    run.display.judged(whole, result)
    RawEvidence(raw).add(RESULT, result.model_dump(mode="json"))
    RawEvidence(raw).records.unlink(missing_ok=True)  # records.jsonl has them now, and they will not be judged again
    progress.show(100, f"verdict {result.verdict}")
    run.display.say(f"verdict {result.verdict}: {result.headline}")
    return result


def versions(api: Api, subject: Subject) -> Versions:
    """Return the versions that run there, each empty when it cannot be read: no verdict depends on them."""
    with Observer(api, subject) as observer:
        return Versions(
            leeward=own_version(),
            kubernetes=or_none(lambda: str(api.get("/version").get("gitVersion", ""))) or "",
            kuberay=(or_none(lambda: _operator_image(api)) or "").rpartition(":")[2],
            ray=observer.ray_version(),
            image=or_none(lambda: _worker_image(observer)) or "",
        )


def own_version() -> str:
    """Return the version of this program: of the checkout where it runs from one, else of the installed package."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.exists():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("leeward")


def _operator_image(api: Api) -> str:
    operators = [d for d in api.items("/apis/apps/v1/deployments") if "kuberay-operator" in d["metadata"]["name"]]
    return next((str(c["image"]) for d in operators for c in d["spec"]["template"]["spec"]["containers"]), "")


def _worker_image(observer: Observer) -> str:
    workers = observer.cluster_pods("worker")
    return str(workers[-1]["spec"]["containers"][0]["image"]) if workers else ""
