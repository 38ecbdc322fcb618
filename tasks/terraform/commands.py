"""Terraform's commands on one stack: init, plan, apply, destroy, output. Independent of Prefect.

A `Workspace` holds the configuration, the backend of the state and a private folder. Every function runs one command to its end,
within a deadline, and reports progress. A lock on the state is removed only if a dead process of this pipeline certainly left it;
any other lock is never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from python_terraform import IsFlagged, Terraform

from tasks.support.paths import ROOT
from tasks.terraform.errors import Event, StateLocked, TerraformFailed, failure
from tasks.terraform.events import OnProgress, PlanSummary, TerraformProgress, Tracker, ignore
from tasks.terraform.lock import LOCK_KEPT, ProcessRecords, ProcessWatch
from tasks.terraform.mirror import cli_config
from tasks.terraform.process import Invocation, follow, private_file

_PASSED_ENVIRONMENT = (
    *("PATH", "HOME", "TMPDIR", "LANG", "USER", "TF_CLI_CONFIG_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""Variables of this process that Terraform gets. Not all, because some of the others hold secrets."""

LONGEST_TMPDIR = 80
"""Bytes of a TMPDIR that Terraform gets; with a longer one it takes /tmp. Its plug-ins have Unix sockets there, of at most 107 bytes."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Terraform's settings for one stack."""

    home: Path
    """Private folder of this stack: Terraform's data, the saved plan, the output of the last runs. No state."""
    backend: Mapping[str, str]
    """Settings of the backend, such as bucket, key and region; no credentials."""
    environment: Mapping[str, str] = field(repr=False)
    """AWS_* variables: credentials, region, endpoint."""
    configuration: Path = ROOT / "terraform"

    @property
    def plan_file(self) -> Path:
        """Path of the saved plan. It holds all variables in clear text, so it has mode 0600 and is deleted once it is applied."""
        return self.home / "saved.tfplan"

    @property
    def records(self) -> ProcessRecords:
        """Processes of this stack that have not ended normally."""
        return ProcessRecords(self.home / "runs")


def init(workspace: Workspace) -> None:
    """Install the provider in the version of the lock file, and configure the workspace's backend."""
    with tempfile.TemporaryDirectory(prefix="leeward-") as private:
        settings = _write_private(
            Path(private, "backend.tfvars"), "".join(f"{key} = {json.dumps(value)}\n" for key, value in workspace.backend.items())
        )
        _run(workspace, "init", 600, ignore, reconfigure=IsFlagged, lockfile="readonly", backend_config=str(settings))


def plan(workspace: Workspace, variables: Mapping[str, Any], *, deadline_s: float = 600, on_progress: OnProgress = ignore) -> PlanSummary:
    """Save a plan for `apply`; returns its summary, with the digest of its changes."""
    with tempfile.TemporaryDirectory(prefix="leeward-") as private:
        events = _run_with_lock(
            workspace,
            "plan",
            deadline_s,
            on_progress,
            out=str(workspace.plan_file),
            var_file=str(_write_variables(Path(private), variables)),
        )
    planned = PlanSummary.from_events(events)
    return planned if planned.empty else replace(planned, digest=_digest(workspace))


def _digest(workspace: Workspace) -> str:
    """Hash of the saved plan's changes with their values, also the secret ones. Equal for two plans that would do the same."""
    _run(workspace, "show", 120, ignore, str(workspace.plan_file))
    printed = workspace.home / "show.log"
    try:
        changes = [
            each for each in json.loads(printed.read_text())["resource_changes"] if set(each["change"]["actions"]) - {"no-op", "read"}
        ]
    finally:
        printed.unlink()  # it has the secrets of the plan in clear text
    values = {
        each["address"]: {key: each["change"].get(key) for key in ("actions", "before", "after", "after_unknown")} for each in changes
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def apply(workspace: Workspace, *, deadline_s: float = 3600, on_progress: OnProgress = ignore) -> None:
    """Apply the saved plan and delete its file.

    Raises:
        PlanOutdated: the state has changed since the plan was made.
    """
    if not workspace.plan_file.exists():
        raise TerraformFailed(f"there is no saved plan in {workspace.home}: make one first")
    _run_with_lock(workspace, "apply", deadline_s, on_progress, str(workspace.plan_file))
    workspace.plan_file.unlink()


def destroy(workspace: Workspace, variables: Mapping[str, Any], *, on_progress: OnProgress = ignore) -> int:
    """Destroy everything in the state; returns the number of destroyed resources."""
    with tempfile.TemporaryDirectory(prefix="leeward-") as private:
        path = _write_variables(Path(private), variables)
        events = _run_with_lock(workspace, "destroy", 3600, on_progress, auto_approve=IsFlagged, var_file=str(path))
    workspace.plan_file.unlink(missing_ok=True)
    return sum(event["type"] == "apply_complete" and event["hook"]["action"] == "delete" for event in events)


def output(workspace: Workspace) -> dict[str, Any]:
    """Values of the outputs, sensitive ones in clear text; empty if nothing was applied."""
    _run(workspace, "output", 120, ignore)
    printed = workspace.home / "output.log"
    values = json.loads(printed.read_text())
    printed.unlink()
    return {name: output["value"] for name, output in values.items()}


def force_unlock(workspace: Workspace, lock_id: str) -> None:
    """Remove the state's lock with this id. Only for a lock that a dead process left."""
    _run(workspace, "force-unlock", 120, ignore, lock_id, force=IsFlagged)


def _run_with_lock(
    workspace: Workspace, command: str, deadline_s: float, on_progress: OnProgress, *arguments: str, **options: Any
) -> list[Event]:
    """Run a command that takes the state's lock: wait for an earlier process of this stack, and remove a lock that a dead one left."""
    until = time.monotonic() + deadline_s
    _await_earlier_run(workspace, until, on_progress)
    try:
        return _run_recorded(workspace, command, until - time.monotonic(), on_progress, arguments, options)
    except StateLocked as refused:
        if refused.lock is None or not any(runner.left_behind(refused.lock) for runner in workspace.records.all()):
            raise
        on_progress(TerraformProgress(0, 0, (), 0, f"removing the lock of a killed run: {refused.lock.described()}"))
        force_unlock(workspace, refused.lock.id)
        return _run_recorded(workspace, command, until - time.monotonic(), on_progress, arguments, options)


def _run_recorded(
    workspace: Workspace, command: str, deadline_s: float, on_progress: OnProgress, arguments: Sequence[str], options: Mapping[str, Any]
) -> list[Event]:
    """Run a command and record its process while it may hold the lock."""
    watch = ProcessWatch(workspace.records)
    try:
        events = _run(workspace, command, deadline_s, on_progress, *arguments, watch=watch, **options)
    finally:
        watch.close(unreleased=LOCK_KEPT in _read_log(workspace, command))
    workspace.records.remove_dead()
    return events


def _read_log(workspace: Workspace, command: str) -> str:
    path = workspace.home / f"{command}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def _await_earlier_run(workspace: Workspace, until: float, on_progress: OnProgress) -> None:
    """Wait until no earlier terraform of this stack runs: one may outlive its flow run.

    Raises:
        StateLocked: it still runs at `until`.
    """
    began, reported = time.monotonic(), 0.0
    while living := [runner.pid for runner in workspace.records.all() if runner.alive()]:
        now = time.monotonic()
        if now > until:
            raise StateLocked(f"terraform (pid {living[0]}) of an earlier run still runs after {now - began:.0f} s; wait for it or stop it")
        if now - reported > 5:
            on_progress(TerraformProgress(0, 0, (), now - began, f"waiting for terraform (pid {living[0]}) of an earlier run to end"))
            reported = now
        time.sleep(0.2)


def _run(
    workspace: Workspace,
    command: str,
    deadline_s: float,
    on_progress: OnProgress,
    *arguments: str,
    watch: ProcessWatch | None = None,
    **options: Any,
) -> list[Event]:
    """Run one command; returns its events, or raises the error for its exit code."""
    workspace.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    workspace.home.chmod(0o700)
    call = Invocation(
        _arguments(workspace, command, arguments, options),
        workspace.configuration,
        _environment(workspace),
        workspace.home / f"{command}.log",
    )
    track = Tracker(on_progress)
    returncode = follow(call, track, deadline_s, watch)
    if returncode != 0:
        raise failure(command, returncode, track.events, call.errors.read_text(errors="replace"))
    return track.events


def _arguments(workspace: Workspace, command: str, arguments: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Make the command line with python-terraform, which is not used to run it: it can neither stream output nor stop a process."""
    common: dict[str, Any] = {"no_color": IsFlagged} if command == "force-unlock" else {"json": IsFlagged}
    if command in ("init", "plan", "apply", "destroy"):
        common["input"] = False
    builder = Terraform(working_dir=str(workspace.configuration))
    return [str(part) for part in builder.generate_cmd_string(command, *arguments, **common, **options)]


def _environment(workspace: Workspace) -> dict[str, str]:
    """Terraform's environment: some variables of this process, the workspace's AWS variables, and settings for running unattended."""
    environment = {name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ}
    if len(os.fsencode(environment.get("TMPDIR", ""))) > LONGEST_TMPDIR:
        del environment["TMPDIR"]
    environment |= workspace.environment
    environment |= {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", "TF_DATA_DIR": str(workspace.home / "data")}
    config = cli_config(workspace.home)
    if config is not None:
        environment["TF_CLI_CONFIG_FILE"] = str(config)
    endpoint = urlsplit(environment.get("AWS_ENDPOINT_URL", "")).hostname
    if endpoint:
        environment["NO_PROXY"] = ",".join(filter(None, (environment.get("NO_PROXY") or environment.get("no_proxy"), endpoint)))
        environment.pop("no_proxy", None)
    return environment


def _write_variables(folder: Path, variables: Mapping[str, Any]) -> Path:
    return _write_private(folder / "variables.tfvars.json", json.dumps(dict(variables)))


def _write_private(path: Path, text: str) -> Path:
    with private_file(path) as file:
        file.write(text.encode())
    return path
