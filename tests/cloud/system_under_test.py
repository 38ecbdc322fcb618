"""The system that tests on the embedded cloud examine: the cloud, Prefect, and the flow runs so far."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.cloud import Endpoint
from scripts.demo import find_evidence
from scripts.local_access import link_kubectl, write_kubeconfig
from scripts.services.follow import RunSnapshot, follow, take_snapshot
from scripts.services.prefect_api import DIRECT, TERMINAL, wait_until
from scripts.services.services import LOG, Services
from scripts.stack import TARGET
from scripts.support.console import Console
from scripts.support.paths import PYTHON, ROOT, RUN
from scripts.support.processes import Process

SCALED = {"workers": 1, "scaling": {"max_workers": 2, "ongoing_requests": 6, "up_after_s": 5, "down_after_s": 30}}
"""Parameters of a service that follows its load and shrinks after the shortest delay that is allowed."""
ELASTIC = {"inf2_nodes": {"count": 2}, "karpenter": {"empty_for_s": 30}}
"""Parameters of the infrastructure for the service SCALED."""
SHORT = {"before_s": 10, "after_s": 15}
"""Timing of a drill whose test does not look at latencies."""
WITHIN_S = 30 * 60.0
"""Seconds that a run may take. A lifecycle takes five minutes on two cores; a machine six times as slow still passes."""


@dataclass(frozen=True)
class Run:
    """A flow run that has ended."""

    name: str
    identity: str
    snapshot: RunSnapshot
    log: str
    """The services' log during the run."""

    @property
    def state(self) -> str:
        """State type of the run: COMPLETED, FAILED, …"""
        return self.snapshot.state

    @cached_property
    def folder(self) -> Path:
        """Folder of the run's evidence."""
        found = find_evidence(self.name, self.identity)
        assert found, f"{self.name} left no evidence; it ended as {self.snapshot.label}: {self.snapshot.message}"
        return found.parent

    @cached_property
    def evidence(self) -> dict[str, Any]:
        """Content of the run's evidence.json, or for a series of its series.json."""
        found = find_evidence(self.name, self.identity)
        assert found, f"{self.name} left no evidence"
        return dict(json.loads(found.read_text()))

    def stage(self, name: str) -> list[str]:
        """Return the names of the tasks of a stage that completed."""
        return [task.name for task in self.snapshot.tasks.values() if task.stage == name and task.state == "COMPLETED"]


def processes_of(flow_run: str) -> list[Process]:
    """Return the live processes that Prefect started for a flow run."""
    mark = f"PREFECT__FLOW_RUN_ID={flow_run}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(Process.find(int(entry.name)))
    return [process for process in found if process]


@dataclass
class System:
    """A running cloud and Prefect."""

    services: Services
    endpoint: Endpoint
    console: Console
    runs: list[Run] = field(default_factory=list)

    def run(self, deployment: str, within_s: float = WITHIN_S, **parameters: object) -> Run:
        """Run the deployment to its end with target=embedded."""
        before = LOG.stat().st_size
        name, identity = self.start(deployment, **parameters)
        snapshot = follow(self.services.api, identity, self.services.process, self.console, within_s)
        log = LOG.read_bytes()[before:].decode(errors="replace")
        run = Run(name, identity, snapshot, log)
        self.runs.append(run)
        return run

    def start(self, deployment: str, **parameters: object) -> tuple[str, str]:
        """Start the deployment with target=embedded, as Prefect's UI does; return the run's name and id."""
        name = f"{deployment.split('/')[0]}-{time.strftime('%H%M%S')}-{secrets.token_hex(2)}"
        api = self.services.api
        wanted = {"name": name, "idempotency_key": name, "parameters": {"target": TARGET, **parameters}}
        return name, str(api.post(f"/deployments/{api.get(f'/deployments/name/{deployment}')['id']}/create_flow_run", wanted)["id"])

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until `holds()` is true."""
        wait_until(what, holds, WITHIN_S, self.services.process, self.console)

    def until_in(self, name: str, identity: str, task: str, progress: str = "") -> None:
        """Wait until the run is in a task whose progress matches the pattern, or has just completed it, when that was quick."""

        def reached() -> bool:
            snapshot = take_snapshot(self.services.api, identity)
            assert snapshot.state not in TERMINAL, f"{name} ended before '{task}': {snapshot.label}: {snapshot.message}"
            tasks = {key: one.state for key, one in snapshot.tasks.items() if one.name == task}
            in_it = any(state == "RUNNING" and re.search(progress, snapshot.progress.get(key, "")) for key, state in tasks.items())
            return in_it or "COMPLETED" in tasks.values()

        self.until(f"{name} is in '{task}'", reached)

    def sweeps_of(self, owner: str) -> list[str]:
        """Return the state types of the `sweep` flow runs for the run `owner`."""
        sweeps = self.services.api.post("/flow_runs/filter", {"flows": {"name": {"any_": ["sweep"]}}})
        return [str(sweep["state_type"]) for sweep in sweeps if sweep["parameters"].get("owner") == owner]

    def status(self) -> dict[str, list[str]]:
        """Run `status/main` and return kind → descriptions. Sources that could not be asked are left out."""
        run = self.run("status/main")
        assert run.state == "COMPLETED", run.snapshot.message
        (table,) = [artifact for artifact in self.services.api.artifacts(run.identity) if artifact["key"] == "status"]
        kinds: dict[str, list[str]] = {}
        for row in json.loads(table["data"]):
            if row["known"]:
                kinds.setdefault(row["kind"], []).append(f"{row['name']}: {row['says']}")
        return kinds

    def ask(self, path: str, method: str = "GET") -> Any:
        """Send a request to the cloud's own API, /localcloud/`path`, and return the JSON of its answer."""
        request = urllib.request.Request(f"{self.endpoint['endpoint_url']}/localcloud/{path}", method=method)
        with DIRECT.open(request, timeout=30) as answer:
            return json.load(answer)

    @cached_property
    def kubeconfig(self) -> Path:
        """A kubeconfig that authenticates as the pipeline's role."""
        return write_kubeconfig(self.endpoint)

    def kubectl_command(self, config: Path | None = None) -> list[str]:
        """Return the command line of kubectl, without what it is to do."""
        program = RUN / "kubectl"
        return [str(program if program.exists() else link_kubectl()), f"--kubeconfig={config or self.kubeconfig}"]

    def kubectl(
        self, *arguments: str, config: Path | None = None, environment: dict[str, str] | None = None, within_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end, whatever its exit code, and return the completed process."""
        command = [*self.kubectl_command(config), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=within_s, check=False)

    def objects(self, *arguments: str) -> dict[str, Any]:
        """Return what `kubectl get` finds in the service's namespace."""
        done = self.kubectl("-n", "mistral", "get", *arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def replace_service(self, overlay: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> None:
        """Apply what `overlay` makes of the running RayService; wait until a Ray cluster of that shape serves."""
        for thing in overlay(self.objects("rayservice", "mistral")):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(thing, file)
                file.flush()
                # Replaced, because an apply would keep the fields that the pipeline has set and the overlay leaves out.
                done = self.kubectl("replace" if thing["kind"] == "RayService" else "apply", "-f", file.name)
            assert done.returncode == 0, done.stderr

        def served() -> bool:
            found = self.objects("rayservice", "mistral")
            conditions = {c["type"]: c["status"] for c in found["status"].get("conditions", ())}
            seen = found["status"].get("observedGeneration") == found["metadata"]["generation"]
            return seen and conditions.get("Ready") == "True" and conditions.get("UpgradeInProgress") == "False"

        self.until("the service has taken up the new shape", served)

    def python(self, module: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a program of the locked environment to its end and return the completed process."""
        command = [str(PYTHON), "-m", module, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
