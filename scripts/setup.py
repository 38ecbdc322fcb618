"""Set-up of everything that the demo and the tests need on the machine. With nothing to do it takes seconds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts import steps
from scripts.steps import Step, StepFailed
from scripts.support.console import Console
from scripts.support.paths import LOGS, PYTHON, ROOT
from scripts.support.processes import output_of
from scripts.tools import terraform

CLOUD_GROUPS = ("localcloud",)
"""Dependency groups that the demo needs beyond the project's own dependencies."""
TEST_GROUPS = ("localcloud", "serving", "dev")
"""Dependency groups that the tests need."""


def check_machine(console: Console, ports: Sequence[int] = ()) -> None:
    """Run the doctor and print its list, without what is in order unless the console is verbose: the machine has what set-up cannot
    provide, and these loopback ports are free.

    Raises:
        StepFailed: something is missing; the list says how to provide it.
    """
    # Nothing is installed yet, so the Python of this process runs it.
    command = [sys.executable, "-m", "localcloud", "doctor", *(f"--port={port}" for port in ports)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    shown = [line for line in done.stdout.splitlines() if console.verbose or not line.startswith("ok ")]
    print("\n".join(shown).strip("\n"), flush=True)
    if done.returncode:
        lacking = ", ".join(line[9:25].strip() for line in done.stdout.splitlines() if line.startswith("MISSING"))
        raise StepFailed(f"this machine lacks something that the set-up cannot provide ({lacking}): see the list above")


def plan(groups: Sequence[str], *, cloud: bool, tests: bool = False) -> list[Step]:
    """Return the steps, ordered so that downloads run beside builds. `tests`: include what only the tests need."""
    environment = Step("python", [sys.executable, "-m", "scripts.tools", "environment", *groups], echo=False)
    browser = Step("browser", [sys.executable, "-m", "scripts.tools", "browser"], after=("build",) if cloud else ())
    needed = [environment, browser] if tests else [environment]
    if not cloud:
        return needed
    return [
        *needed,
        Step("terraform", [sys.executable, "-m", "scripts.tools", "terraform"]),
        Step("build", [sys.executable, "-m", "localcloud", "build"]),
        Step("image", [str(PYTHON), "-m", "scripts.installed.image", *(["--bench"] if tests else [])], after=("python", "build")),
    ]


def prepare(console: Console, groups: Sequence[str], *, cloud: bool = True, tests: bool = False) -> None:
    """Install the locked environment, and with `cloud` the binaries, images and tools as well.

    Raises:
        StepFailed: one of them could not be installed or built; the text says why.
    """
    steps.run(plan(groups, cloud=cloud, tests=tests), LOGS, console)


def tool_path() -> list[Path]:
    """Return the folders of Terraform, Go and Helm, to be put in front of the flows' PATH.

    Raises:
        StepFailed: set-up has not run.
    """
    # Flows read upstream's manifests out of Go modules, and render Karpenter's chart.
    code = "from localcloud.build import artifacts; print(*artifacts.tools(), sep='\\n')"
    found = output_of([sys.executable, "-c", code], lambda reason: StepFailed(f"no Go or no Helm: {reason}"))
    return [terraform().parent, *(Path(line).parent for line in found.splitlines())]
