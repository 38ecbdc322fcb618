"""Evidence of a drill: judged, written to files, shown as artifacts, kept in the bucket."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from pydantic import BaseModel

from blocks.errors import PipelineError
from blocks.parameters import Service
from drills import archive, verdict
from drills import evidence as evidences
from drills.definition import Drill
from drills.evidence import Evidence
from drills.observation import Observation, Versions
from drills.verdict import Judgement
from tasks import _rayservice_seen as seen
from tasks import traffic
from tasks.aws import ensure_state_bucket, upload_folder
from tasks.journal import Journal
from tasks.kubernetes import Api
from tasks.notebook import Notebook
from tasks.observer import Observer
from tasks.site import Site
from tasks.step import step

EVIDENCE = Path(__file__).resolve().parent.parent / ".leeward" / "evidence"
LONGEST = 50
"""Characters of a run's name in its folder's: of up to four bytes, and a folder's may have 255 of those."""


class Result(BaseModel, frozen=True):
    """How a drill ended."""

    verdict: verdict.Verdict
    headline: str
    folder: Path

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


def observation(notebook: Notebook, journal: Journal, versions: Versions, aborted: str = "") -> Observation:
    """All that was seen, as drills takes it."""
    snapshots, load, now = notebook.snapshots(), notebook.load(), time.time()
    if journal.before is not None and not any(s.t <= journal.before.t for s in snapshots):
        snapshots.insert(0, journal.before)  # the notebook of another machine is not here, the journal is
    return Observation(
        started=journal.started,
        ended=snapshots[-1].t if snapshots else now,
        fault_at=journal.fault.at if journal.fault and journal.fault.done else None,
        snapshots=tuple(snapshots),
        events=tuple(dict.fromkeys(notebook.events())),  # a try that came back noted them again
        load=traffic.seen(load) if load else None,
        clock_offset_s=notebook.number("clock_offset"),
        aborted=aborted,
        versions=versions,
    )


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
    workers = seen.pods_of(observer.pods(), seen.active_cluster(observer.ray_service()), "worker")
    return str(workers[-1]["spec"]["containers"][0]["image"]) if workers else ""


def _own_version() -> str:
    import tomllib

    return str(tomllib.loads((EVIDENCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def config_of(site: Site, service: Service) -> dict[str, Any]:
    """How the run was configured, for the evidence; nothing in it is secret."""
    return {"service": service.model_dump(mode="json"), "infrastructure": site.infrastructure.model_dump(mode="json")}


def write(folder: Path, found: Evidence, judgement: Judgement, notebook: Notebook) -> Result:
    """The evidence lies in the folder."""
    archive.write(folder, found, traffic.records_in(notebook.records))
    notebook.records.unlink(missing_ok=True)  # records.jsonl has them now
    return Result(verdict=judgement.verdict, headline=judgement.headline, folder=folder)


@step("judge", deadline_s=300)
def judge(site: Site, service: Service, journal: Journal, drill: Drill, folder: Path, run_name: str, aborted: str = "") -> Result:
    """The verdict, with its evidence written and shown."""
    api, notebook = site.api(), Notebook(raw_folder(folder, journal))
    observed = observation(notebook, journal, versions(api, service), aborted)
    records = traffic.records_in(notebook.records)
    judgement = verdict.judge(drill, observed, records)
    found = evidences.of(drill, observed, records, judgement, target=site.target, run=run_name, config=config_of(site, service))
    result = write(folder, found, judgement, notebook)
    _show(found, result)
    get_run_logger().info("verdict %s: %s", result.verdict, result.headline)
    return result


@step("keep evidence", deadline_s=300)
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
    reasons = "".join(f"- {reason}\n" for reason in found.why)
    files = "".join(f"- `{result.folder / name}`\n" for name in ("report.html", "evidence.json", "junit.xml", "records.jsonl"))
    create_markdown_artifact(
        key="verdict", markdown=f"# {found.verdict}\n\n{found.headline}\n\n{reasons}\n{files}", description=found.headline
    )
    kept = {"kept": "yes", "missed": "NO", "in doubt": "in doubt"}
    table = [{"promise": s.name, "limit": s.target, "seen": s.actual, "kept": kept[s.standing], "doubt": s.doubted} for s in found.slos]
    if table:
        create_table_artifact(key="slos", table=table, description=f"{sum(s.standing == 'kept' for s in found.slos)} of {len(table)} kept")
    create_link_artifact(
        key="report", link=(result.folder / "report.html").as_uri(), link_text="report.html", description="The drill in one picture"
    )
