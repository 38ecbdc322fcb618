"""The stack: embedded cloud, Prefect server and worker, brought up and taken down as one by the demo and by the tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from localcloud.paths import cache_dir
from scripts import cloud, setup, steps
from scripts.cloud import CloudError, Endpoint
from scripts.services import services
from scripts.services.services import Forward, Services
from scripts.steps import StepFailed
from scripts.support.console import Console
from scripts.support.paths import LOGS, PYTHON, ROOT, RUN, private_folder
from scripts.support.processes import output_of
from startup import streams

LOCK = Path(os.environ.get("LEEWARD_LOCK") or cache_dir() / "demo.lock")
"""Lock file of the one demo or test run of this user. A test of the demo runs inside a test run, so it sets another path."""
MARKER = RUN / "cloud-is-ours"
"""File that exists while an embedded cloud may be up that this project folder started."""
TARGET = "embedded"
"""Name of the target block of the embedded cloud."""


class ForeignCloud(RuntimeError):
    """An embedded cloud is up that this project folder did not start; the text says what to do."""


class StillUp(RuntimeError):
    """Something could not be taken down; the text says what, and why."""


def may_be_up() -> bool:
    """Whether anything may be up that this project folder started. Without root nothing can have been started or be taken down."""
    return os.geteuid() == 0 and (MARKER.exists() or services.running() is not None)


def prepare_machine(console: Console, ports: Sequence[int] = ()) -> None:
    """Take down what an earlier run left, then run the doctor, which also checks that these loopback ports are free.

    In this order, because what an earlier run left up uses memory, disk and ports that the doctor checks.

    Raises:
        ForeignCloud, StillUp: as `take_down_leftovers`.
        StepFailed: the machine lacks something.
    """
    if os.geteuid() == 0:  # the doctor reports it when root is missing
        take_down_leftovers(console)
    setup.check_machine(console, ports)


def take_down_leftovers(console: Console) -> None:
    """Take down what an earlier run left up.

    Raises:
        ForeignCloud: a cloud is up that was started by hand or from another folder.
        StillUp: something could not be taken down.
    """
    if may_be_up():
        console.print("cleanup", "an earlier run left things up: taking them down")
        take_down(console)
    elif cloud.running():
        raise ForeignCloud(
            "an embedded cloud is up that was not started here; end it with `python3 -m localcloud down`, or `./demo --down`"
        )


def bring_up(console: Console, *, api_port: int | None = None, forwards: Sequence[Forward] = ()) -> tuple[Services, Endpoint]:
    """Start the cloud and Prefect until both answer, register the target block and deploy every flow.

    Raises:
        StepFailed, CloudError, NotUp: one of them did not come up; the text has the last observation.
    """
    private_folder(RUN)
    MARKER.touch()
    started = services.start(api_port=api_port, path=setup.tool_path(), forwards=forwards)
    console.detail("prefect", f"server and worker are starting at {started.api_url.removesuffix('/api')}")
    steps.run([cloud.up_step()], LOGS, console)
    endpoint = cloud.endpoint()
    started.wait(console)
    register(started, endpoint)
    deploy(started, console)
    return started, endpoint


def register(started: Services, endpoint: Endpoint) -> None:
    """Register the block `leeward-target/embedded` for this cloud. Secrets go through a pipe, never a command line."""
    # The embedded cloud costs nothing, so a plan needs no confirmation.
    command = [str(PYTHON), "-m", "blocks.register", TARGET, "--auto-approve"]
    output_of(
        command, lambda reason: CloudError(f"the target block could not be registered: {reason}"),
        stdin=json.dumps(endpoint), env=started.environment, timeout_s=120,
    )  # fmt: skip


def deploy(started: Services, console: Console) -> None:
    """Deploy every deployment of prefect.yaml to the server."""
    console.detail("prefect", "deploying the flows")
    prefect(started, "--no-prompt", "deploy", "--all")
    count = len(started.api.post("/deployments/filter", {}))
    console.print("prefect", f"server and worker answer, {count} deployments are registered")


def prefect(started: Services, *arguments: str) -> str:
    """Run a `prefect` command against this server and return its output; raises StepFailed with the output when it fails."""
    command = [str(PYTHON), "-m", "prefect", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=started.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
    )  # fmt: skip
    if done.returncode:
        raise StepFailed(f"`prefect {' '.join(arguments)}` failed (exit code {done.returncode}):\n{done.stdout.strip()[-1500:]}")
    return done.stdout


def take_down(console: Console) -> None:
    """Take down services and cloud from any state. A failure of one does not keep the other from being taken down.

    Raises:
        StillUp: something could not be taken down; the text says what and why.
    """
    streams.hurry()
    problems = []
    try:
        if services.stop():
            console.detail("prefect", "server and worker are gone")
    except (RuntimeError, OSError) as error:
        problems.append(str(error))
    try:
        cloud.down(console)
    except (StepFailed, OSError) as error:
        problems.append(str(error))
    if problems:
        raise StillUp("\n".join(problems))
    shutil.rmtree(RUN, ignore_errors=True)
