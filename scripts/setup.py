"""Set-up of everything that the demo and the tests need on the machine. With nothing to do it takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from localcloud.build import artifacts
from localcloud.build.command import BuildError
from localcloud.doctor import doctor
from localcloud.doctor.check import MISSING, OK
from scripts import steps
from scripts.steps import Step, StepFailed
from scripts.support.console import Console
from scripts.support.paths import LOGS, PYTHON
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
    checks = doctor.run_checks(ports)
    print(doctor.format_checks([check for check in checks if console.verbose or check.status != OK]), flush=True)
    if lacking := [check.name for check in checks if check.status == MISSING]:
        raise StepFailed(f"this machine lacks something that the set-up cannot provide ({', '.join(lacking)}): see the list above")


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
    try:
        return [program.parent for program in (terraform(), *artifacts.tools())]
    except BuildError as error:
        raise StepFailed(f"no Go or no Helm: {error}") from error
