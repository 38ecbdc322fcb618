"""Everything that the demo and the tests need on the machine, in place. Nothing to do takes seconds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts import steps
from scripts.steps import Step, StepFailed
from scripts.support.places import LOGS, PYTHON, ROOT
from scripts.support.say import Say
from scripts.tools import terraform

CLOUD_GROUPS = ("localcloud",)
"""What the demo needs beyond the project's own dependencies."""
TEST_GROUPS = ("localcloud", "serving", "dev")


def check_machine(ports: Sequence[int] = ()) -> None:
    """The doctor found nothing that set-up cannot mend, and these loopback ports free; its one list is on the terminal.

    Raises:
        StepFailed: something is missing; the list says how to mend it.
    """
    # Before anything is installed, so by whatever Python runs this.
    command = [sys.executable, "-m", "localcloud", "doctor", *(f"--port={port}" for port in ports)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        lacking = ", ".join(line[9:25].strip() for line in done.stdout.splitlines() if line.startswith("MISSING"))
        raise StepFailed(f"this machine lacks something that the set-up cannot mend itself ({lacking}): see the list above")


def plan(groups: Sequence[str], *, cloud: bool, tests: bool = False) -> list[Step]:
    """The steps; those that wait for the network run beside those that use the cores. `tests`: with what only they need."""
    environment = Step("python", [sys.executable, "-m", "scripts.tools", "environment", *groups], echo=False)
    browser = Step("browser", [sys.executable, "-m", "scripts.tools", "browser"], after=("build",) if cloud else ())
    needed = [environment, browser] if tests else [environment]
    if not cloud:
        return needed
    return [
        *needed,
        Step("terraform", [sys.executable, "-m", "scripts.tools", "terraform"]),
        Step("build", [sys.executable, "-m", "localcloud", "build"]),
        Step("image", [str(PYTHON), "-m", "scripts.image", *(["--bench"] if tests else [])], after=("python", "build")),
    ]


def prepare(say: Say, groups: Sequence[str], *, cloud: bool = True, tests: bool = False) -> None:
    """The locked environment, and with `cloud` the binaries, images and tools as well, are there.

    Raises:
        StepFailed: one of them could not be had; the text says why.
    """
    steps.run(plan(groups, cloud=cloud, tests=tests), LOGS, say)


def tool_path() -> list[Path]:
    """Folders to put before the PATH of flows: where Terraform, Go and Helm are.

    Raises:
        StepFailed: set-up has not run.
    """
    # Flows read upstream's manifests out of Go modules, and render Karpenter's chart.
    code = "from localcloud import build; print(*build.tools(), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise StepFailed(f"no Go or no Helm: {done.stderr.strip()[-300:]}")
    return [terraform().parent, *(Path(line).parent for line in done.stdout.splitlines())]
