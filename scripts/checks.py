"""`./test`: set up what the tests need, lint, type-check, and one pytest whose last line counts."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from scripts import setup, stack
from scripts.cloud import CloudError
from scripts.steps import StepFailed
from scripts.support.console import Console
from scripts.support.interrupts import Interrupted, Interrupts
from scripts.support.paths import PYTHON, ROOT, VENV
from scripts.support.processes import Busy, exclusive_lock
from scripts.tools import ToolMissing

TYPED = ("flows", "tasks", "blocks", "drills", "localcloud", "scripts")
"""Packages under mypy --strict. serving/ runs on other Pythons, with packages that are in its image only."""


def arguments(given: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line; what is not known here is pytest's."""
    parser = argparse.ArgumentParser(
        prog="./test",
        description="Sets up what the tests need, then runs ruff, mypy and pytest: unit tests, then tests on the embedded cloud.",
        epilog="Anything else is passed to pytest, e.g. `./test --unit -k verdict`.",
        allow_abbrev=False,
    )
    parser.add_argument("--unit", action="store_true", help="only what needs no cloud: ruff, mypy, unit tests (ten minutes)")
    parser.add_argument(
        "--all", action="store_true", help="the long ones too: kills at every stage, ./demo itself, a machine with cgroup v2 alone"
    )
    return parser.parse_known_args(given)


def pytest_command(options: argparse.Namespace, more: Sequence[str]) -> list[str]:
    """The one pytest of this run. Unit tests come first, so that what is quick to fail fails first."""
    folders = ["tests/unit"] if options.unit else ["tests/unit", "tests/tools", "tests/cloud", *(["tests/machines"] if options.all else [])]
    marks = [] if options.all else ["-m", "not long"]
    return [str(PYTHON), "-m", "pytest", *marks, *(more or ()), *([] if _names_tests(more) else folders)]


def _names_tests(more: Sequence[str]) -> bool:
    return any(argument.split("::")[0].endswith(".py") or argument.startswith("tests/") for argument in more)


@dataclass
class Checks:
    """One run of the checks."""

    options: argparse.Namespace
    more: Sequence[str]
    console: Console
    interrupts: Interrupts
    cleared: bool = False
    """Nothing was up, so whatever is now is the tests': some start a cloud of their own."""

    def run(self) -> int:
        """Set-up, lint, types, tests; returns the exit code of the first that fails, or 130 after Ctrl-C."""
        try:
            return self._checked()
        except Interrupted as interrupted:
            self.console.print("stop", f"{interrupted}: stopping")
            if self.cleared or (stack.may_be_up() and not self.options.unit):
                self.interrupts.activity = "already taking everything down"
                stack.take_down(self.console)
            return 130

    def _checked(self) -> int:
        if not self.options.unit:
            stack.prepare_machine(self.console)
            self.cleared = True
        setup.prepare(self.console, setup.TEST_GROUPS, cloud=not self.options.unit, tests=True)
        environment = {**os.environ, "PATH": os.pathsep.join([*self._tools(), os.environ.get("PATH", os.defpath)]), "DO_NOT_TRACK": "1"}
        for name, command in (
            ("ruff", [str(PYTHON), "-m", "ruff", "check", "."]),
            ("mypy", [str(PYTHON), "-m", "mypy", "--strict", *(folder for folder in TYPED if (ROOT / folder).exists())]),
            ("pytest", pytest_command(self.options, self.more)),
        ):
            self.console.print(name, "…")
            code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
            if code:
                self.console.print(name, f"failed (exit code {code})")
                return code
        return 0

    def _tools(self) -> list[str]:
        return [str(VENV / "bin"), *([] if self.options.unit else map(str, setup.tool_path()))]


def main(given: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options, more = arguments(given)
    console = Console()
    try:
        with exclusive_lock(stack.LOCK), Interrupts(console) as interrupts:
            return Checks(options, more, console, interrupts).run()
    except (Busy, StepFailed, CloudError, ToolMissing, stack.ForeignCloud, stack.StillUp, OSError) as problem:
        console.print("error", str(problem))
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
