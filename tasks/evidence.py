"""Evidence of a drill: judged, written to files, shown as artifacts, kept in the bucket."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from pydantic import BaseModel

from blocks.parameters import Service
from drills import archive, verdict
from drills import evidence as evidences
from drills.definition import Drill
from drills.evidence import Evidence
from drills.observation import Observation, Versions
from drills.verdict import Judgement
from tasks import traffic
from tasks.aws import ensure_state_bucket, upload_folder
from tasks.journal import Journal
from tasks.kubernetes import Api
from tasks.notebook import Notebook
from tasks.observer import Observer
from tasks.site import Site
from tasks.step import step

EVIDENCE = Path(__file__).resolve().parent.parent / ".leeward" / "evidence"


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
    """The run's folder: by its name, and by its id as well where another run of that name has one. The same at every call."""
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
        events=tuple(notebook.events()),
        load=traffic.seen(load) if load else None,
        clock_offset_s=notebook.number("clock_offset"),
        aborted=aborted,
        versions=versions,
    )


def versions(api: Api, service: Service, image: str) -> Versions:
    """What runs there; empty where it does not say."""
    with Observer(api, service) as observer:
        ray = observer.ray_version()
        operators = [d for d in api.items("/apis/apps/v1/deployments") if "kuberay-operator" in d["metadata"]["name"]]
    images = [c["image"] for d in operators for c in d["spec"]["template"]["spec"]["containers"]]
    return Versions(
        leeward=_own_version(),
        kubernetes=str(api.get("/version").get("gitVersion", "")),
        kuberay=images[0].rpartition(":")[2] if images else "",
        ray=ray,
        image=image,
    )


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
def judge(
    site: Site, service: Service, journal: Journal, drill: Drill, image: str, folder: Path, run_name: str, aborted: str = ""
) -> Result:
    """The verdict, with its evidence written and shown."""
    api, notebook = site.api(), Notebook(raw_folder(folder, journal))
    seen = observation(notebook, journal, versions(api, service, image), aborted)
    records = traffic.records_in(notebook.records)
    judgement = verdict.judge(drill, seen, records)
    found = evidences.of(drill, seen, records, judgement, target=site.target, run=run_name, config=config_of(site, service))
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
    table = [{"promise": s.name, "limit": str(s.target), "seen": str(s.actual), "kept": "yes" if s.passed else "NO"} for s in found.slos]
    if table:
        create_table_artifact(key="slos", table=table, description=f"{sum(s.passed for s in found.slos)} of {len(table)} kept")
    create_link_artifact(
        key="report", link=(result.folder / "report.html").as_uri(), link_text="report.html", description="The drill in one picture"
    )
