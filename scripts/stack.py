"""Cloud, Prefect server and worker, brought up and taken down as one; what the demo and the tests share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scripts import cloud, setup, steps
from scripts.cloud import CloudError, Endpoint
from scripts.services import services
from scripts.services.forward import Forward
from scripts.services.services import Services
from scripts.steps import StepFailed
from scripts.support.console import Console
from scripts.support.paths import LOGS, PYTHON, ROOT, RUN, cache_dir, private_folder

LOCK = Path(os.environ.get("LEEWARD_LOCK") or cache_dir() / "demo.lock")
"""Held by the one demo or test run of the machine's user. A test of the demo itself, which runs inside a test run, names another."""
MARKER = RUN / "cloud-is-ours"
"""There while an embedded cloud may be up that this project folder started."""
TARGET = "embedded"
"""Name of the target block that stands for the embedded cloud."""


class ForeignCloud(RuntimeError):
    """An embedded cloud is up that nothing here started; the text says what to do."""


class StillUp(RuntimeError):
    """Something could not be taken down; the text says what, and why."""


def may_be_up() -> bool:
    """Whether anything may be up that this project folder started. Who is not root could start nothing, and takes nothing down."""
    return os.geteuid() == 0 and (MARKER.exists() or services.running() is not None)


def prepare_machine(console: Console, ports: Sequence[int] = ()) -> None:
    """Nothing is up, and the doctor found nothing that set-up cannot mend. These loopback ports are free.

    In this order, because what an earlier run left up takes memory, disk and ports that the doctor looks for.

    Raises:
        ForeignCloud, StillUp: as `take_down_leftovers`.
        StepFailed: the machine lacks something.
    """
    if os.geteuid() == 0:  # who is not is told so by the doctor
        take_down_leftovers(console)
    setup.check_machine(ports)


def take_down_leftovers(console: Console) -> None:
    """Nothing is up: what an earlier run left behind is gone.

    Raises:
        ForeignCloud: a cloud is up that was started by hand or from another folder.
        StillUp: a leftover does not go.
    """
    if may_be_up():
        console.print("cleanup", "an earlier run left things up: taking them down")
        take_down(console)
    elif cloud.running():
        raise ForeignCloud(
            "an embedded cloud is up that was not started here; end it with `python3 -m localcloud down`, or `./demo --down`"
        )


def bring_up(console: Console, *, api_port: int | None = None, forwards: Sequence[Forward] = ()) -> tuple[Services, Endpoint]:
    """The cloud and Prefect answer, the target block is registered and every flow is deployed.

    Raises:
        StepFailed, CloudError, NotUp: one of them did not come up; the text says what was seen last.
    """
    private_folder(RUN)
    MARKER.touch()
    started = services.start(api_port=api_port, path=setup.tool_path(), forwards=forwards)
    console.print("prefect", f"server and worker are starting at {started.api_url.removesuffix('/api')}")
    steps.run([cloud.up()], LOGS, console)
    endpoint = cloud.endpoint()
    started.wait(console)
    register(started, endpoint)
    deploy(started, console)
    return started, endpoint


def register(started: Services, endpoint: Endpoint) -> None:
    """The block `leeward-target/embedded` leads to this cloud. Secrets go through a pipe, never a command line."""
    done = subprocess.run(
        # Nothing embedded costs money, so a plan need not be confirmed.
        [str(PYTHON), "-m", "blocks.register", TARGET, "--auto-approve"],
        input=json.dumps(endpoint), text=True, capture_output=True, cwd=ROOT, env=started.environment, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CloudError(f"the target block could not be registered: {done.stderr.strip()[-800:]}")


def deploy(started: Services, console: Console) -> None:
    """Every deployment of prefect.yaml is on the server."""
    console.print("prefect", "the flows are being deployed")
    prefect(started, "--no-prompt", "deploy", "--all")
    count = len(started.api.post("/deployments/filter", {}))
    console.print("prefect", f"{count} deployments are registered")


def prefect(started: Services, *arguments: str) -> str:
    """The output of a `prefect` command against our server; raises StepFailed with it when the command fails."""
    command = [str(PYTHON), "-m", "prefect", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=started.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
    )  # fmt: skip
    if done.returncode:
        raise StepFailed(f"`prefect {' '.join(arguments)}` failed (exit code {done.returncode}):\n{done.stdout.strip()[-1500:]}")
    return done.stdout


def take_down(console: Console) -> None:
    """Services and cloud are gone, from whatever state; both are tried even when one resists.

    Raises:
        StillUp: what could not be taken down.
    """
    problems = []
    try:
        if services.stop():
            console.print("prefect", "server and worker are gone")
    except RuntimeError as error:
        problems.append(str(error))
    try:
        cloud.down(console)
    except StepFailed as error:
        problems.append(str(error))
    if problems:
        raise StillUp("\n".join(problems))
    shutil.rmtree(RUN, ignore_errors=True)
