"""`./test`: set up what the tests need, lint, type-check, run the tests, and sum up.

Unit tests and those of tools run first, in one process for each core. Those of the embedded cloud follow in a pytest of
their own: they share one cloud and come in a fixed order.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from xml.etree import ElementTree

import startup
from localcloud.progress import format_seconds
from scripts import setup, stack, steps, tools
from scripts.cloud import CloudError
from scripts.steps import Step, StepFailed
from scripts.support.console import Console
from scripts.support.interrupts import Interrupted, Interrupts
from scripts.support.paths import LOGS, PYTHON, ROOT, STATE, VENV
from scripts.support.processes import Busy, exclusive_lock
from scripts.tools import ToolMissing

TYPED = ("flows", "tasks", "blocks", "drills", "localcloud", "scripts", "startup")
"""Packages under mypy --strict. serving/ runs on other Pythons, with packages that are in its image only."""
REPORTS = STATE / "tests"
"""Folder of pytest's reports, one JUnit file for each run of it."""
NEEDS_PROGRAM = {"terraform": "tests/tools/test_terraform_configuration.py", "browser": "tests/tools/test_chat_page.py"}
"""Tests that are left out where the set-up cannot get the program. Where the cloud runs, it gets all of them or fails."""
MACHINES = "tests/machines"
"""Tests in a virtual machine, which has a cloud of its own."""
WORKERS_MAX = 8
"""Processes for the unit tests. Each imports Prefect and moto first, some 15 s of CPU, so more of them gain nothing."""
SLOWEST = 25
"""Number of tests and fixtures whose durations are printed in the end: where the time of a run went."""
_FAILED, _NO_TESTS = 1, 5
"""Exit codes of pytest: tests failed; no test was collected."""


def arguments(given: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line; what is not known here is pytest's."""
    parser = argparse.ArgumentParser(
        prog="./test",
        description="Sets up what the tests need, then runs ruff, mypy and pytest: unit tests and tests of tools, then those on the "
        "embedded cloud.",
        epilog="Anything else is passed to pytest, e.g. `./test --unit -k verdict`.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--unit", action="store_true", help="only what needs no cloud and no other program: ruff, mypy, unit tests (five to six minutes)"
    )
    parser.add_argument(
        "--all", action="store_true", help="the long ones too: kills at every stage, ./demo itself, a machine with cgroup v2 alone"
    )
    options, more = parser.parse_known_args(given)
    for path in _paths(more):
        if not (UNIT.includes(path) or CLOUD.includes(path)):
            parser.error(f"{path} is in none of {', '.join(UNIT.folders + CLOUD.folders)}")
        if options.unit and not UNIT.includes(path):
            parser.error(f"{path} needs the embedded cloud: leave out --unit")
    return options, more


@dataclass(frozen=True)
class PytestRun:
    """One run of pytest, with the folders that belong to it."""

    name: str
    folders: tuple[str, ...]
    """The tests that belong to this run."""
    parallel: bool
    """Whether its files may run in several processes."""

    @property
    def report(self) -> Path:
        """The JUnit file that it writes."""
        return REPORTS / f"{self.name}.xml"

    def command(self, options: argparse.Namespace, more: Sequence[str]) -> list[str]:
        """Return the command line, or [] when paths are given and none of them belongs to this run."""
        wanted = self.wanted(options, more)
        if not wanted:
            return []
        marks = [] if options.all else ["-m", "not long"]
        rest = [argument for argument in more if argument not in _paths(more)]
        # A process more costs its imports, which a single file does not repay. What the user says comes later, and holds.
        workers = _cores() if self.parallel and not all(".py" in path for path in wanted) else 0
        distributed = ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"] if workers > 1 else []
        alone = [] if self.parallel else ["-n", "0"]
        reports = [f"--junit-xml={self.report}", f"--durations={SLOWEST}"]
        return [str(PYTHON), "-m", "pytest", *reports, *marks, *distributed, *rest, *alone, *wanted]

    def wanted(self, options: argparse.Namespace, more: Sequence[str]) -> list[str]:
        """Return what this run would test: of the paths that are given, or else of its folders."""
        if named := _paths(more):
            return [path for each in named for path in self.includes(each)]
        left_out = {"tests/tools", *CLOUD.folders} if options.unit else set() if options.all else {MACHINES}
        return [folder for folder in self.folders if folder not in left_out]

    def includes(self, path: str) -> list[str]:
        """Return the path when it lies in one of this run's folders, else those of its folders that lie in the path."""
        inside = any(PurePath(path).is_relative_to(folder) for folder in self.folders)
        return [path] if inside else [folder for folder in self.folders if PurePath(folder).is_relative_to(path)]


# Tests of tools first: Terraform's own take longer than any other, and the cores should be busy until the end.
UNIT = PytestRun("unit", ("tests/tools", "tests/unit"), parallel=True)
CLOUD = PytestRun("cloud", ("tests/cloud", MACHINES), parallel=False)


def _paths(more: Sequence[str]) -> list[str]:
    """Return the arguments that name tests."""
    names = (argument for argument in more if not argument.startswith("-"))
    return [name for name in names if name.split("::")[0].endswith(".py") or PurePath(name).is_relative_to("tests")]


def _cores() -> int:
    """Return how many processes may share the unit tests."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, WORKERS_MAX)


def counted(report: Path) -> str:
    """Return what a JUnit file counts, e.g. "2 FAILED, 118 passed, 3 skipped in 4 min 10 s"; "no report" when there is none."""
    try:
        suite = next(ElementTree.parse(report).iter("testsuite"))
    except (OSError, ElementTree.ParseError, StopIteration):
        return "no report"
    number = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    passed = number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    counts = {"FAILED": number["failures"], "in ERROR": number["errors"], "passed": passed, "skipped": number["skipped"]}
    found = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "no tests"
    return f"{found} in {format_seconds(float(suite.get('time', '0')))}"


@dataclass
class Checks:
    """One run of the checks."""

    options: argparse.Namespace
    more: Sequence[str]
    console: Console
    interrupts: Interrupts
    cleared: bool = False
    """Nothing was up, so whatever is now is the tests': some start a cloud of their own."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Tests that this machine cannot run, and why."""

    def run(self) -> int:
        """Set up, lint, type-check, test; return the exit code, which is 130 after Ctrl-C.

        Lint and types end the run when they fail. All tests run, whatever fails, and the code is the worst of them; it
        is 1 when the machine could not run some.
        """
        try:
            code = self._checked()
        except Interrupted as interrupted:
            self.console.print("stop", f"{interrupted}: stopping")
            if self.cleared or (self._wants_the_cloud() and stack.may_be_up()):
                self.interrupts.activity = "already taking everything down"
                stack.take_down(self.console)
            return 130
        # Pytest ends without its own clean-up when the reader of its output is gone.
        if self.cleared and stack.may_be_up():
            self.interrupts.shielded, self.interrupts.activity = True, "already taking everything down"
            stack.take_down(self.console)
        return code

    def _checked(self) -> int:
        runs = [UNIT, CLOUD] if CLOUD.wanted(self.options, self.more) and self._carries_the_cloud() else [UNIT]
        cloud = CLOUD in runs and self._wants_the_cloud()
        self._prepare(cloud)
        path = os.pathsep.join([*self._tools(cloud), os.environ.get("PATH", os.defpath)])
        environment = {**os.environ, "PATH": path, "DO_NOT_TRACK": "1"}
        for name, command in (
            ("ruff", [str(PYTHON), "-m", "ruff", "check", "."]),
            ("mypy", [str(PYTHON), "-m", "mypy", "--strict", *(folder for folder in TYPED if (ROOT / folder).exists())]),
        ):
            self.console.print(name, "…")
            code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
            if code:
                self.console.print(name, f"failed (exit code {code})")
                return code
        return self._tested(runs, environment)

    def _wants_the_cloud(self) -> bool:
        """Whether a test on this machine's cloud is wanted; those in a virtual machine bring their own."""
        return not all(PurePath(path).is_relative_to(MACHINES) for path in CLOUD.wanted(self.options, self.more))

    def _carries_the_cloud(self) -> bool:
        """Whether this machine can run the embedded cloud, also in a virtual machine; why not is noted.

        Nothing is up any more if a test on this machine's cloud is wanted; for the others a cloud stays up.
        """
        try:
            if self._wants_the_cloud():
                stack.prepare_machine(self.console)
                self.cleared = True
            else:
                setup.check_machine(self.console)
        except StepFailed as lacking:
            self.left_out[" ".join(CLOUD.wanted(self.options, self.more))] = str(lacking)
            return False
        return True

    def _programs(self, cloud: bool) -> dict[str, str]:
        """Return NEEDS_PROGRAM of the tests that are wanted; with a cloud the set-up has got all of them."""
        wanted = [] if cloud else [path.split("::")[0] for path in UNIT.wanted(self.options, self.more)]
        return {program: tests for program, tests in NEEDS_PROGRAM.items() if any(PurePath(tests).is_relative_to(path) for path in wanted)}

    def _prepare(self, cloud: bool) -> None:
        """Set up what the tests need; without a cloud, programs that cannot be had are noted."""
        setup.prepare(self.console, setup.TEST_GROUPS, cloud=cloud, tests=cloud)
        for program, tests in self._programs(cloud).items():
            try:
                steps.run([Step(program, [sys.executable, "-m", "scripts.tools", program])], LOGS, self.console)
            except StepFailed:
                self.left_out[tests] = f"there is no {program}, and it could not be installed"

    def _tools(self, cloud: bool) -> list[str]:
        """Return the folders to put before the PATH of the tests."""
        folders = setup.tool_path() if cloud else []
        if "terraform" in self._programs(cloud) and NEEDS_PROGRAM["terraform"] not in self.left_out:
            folders = [tools.terraform().parent]
        return [str(VENV / "bin"), *map(str, folders)]

    def _tested(self, runs: Sequence[PytestRun], environment: dict[str, str]) -> int:
        """Run the tests and print the sum; return the exit code."""
        more = [*self.more, *(f"--ignore={tests}" for tests in self.left_out if tests.endswith(".py"))]
        codes: dict[PytestRun, int] = {}
        for run in runs:
            command = run.command(self.options, more)
            # What pytest itself ends at: Ctrl-C, an error in the collection, a wrong option; with -x the first failure.
            ended = any(code not in (0, _NO_TESTS) and (code != _FAILED or {"-x", "--exitfirst"} & set(more)) for code in codes.values())
            if command and ended:
                self.left_out[" ".join(run.wanted(self.options, more))] = "the tests before ended early"
            elif command:
                self.console.print("pytest", f"{run.name} …")
                run.report.unlink(missing_ok=True)
                code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
                codes[run] = 128 - code if code < 0 else code
        return self._summed_up(codes)

    def _summed_up(self, codes: dict[PytestRun, int]) -> int:
        """Print what was run and what was not, and return the worst exit code. A selection may leave one run without a test."""
        for run, code in codes.items():
            self.console.print("tests", f"{run.name}: {counted(run.report)}" + (f" (exit code {code})" if code else ""))
        for tests, why in self.left_out.items():
            self.console.print("tests", f"LEFT OUT: {tests}: {why}")
        ran = [code for code in codes.values() if code != _NO_TESTS]
        worst = max(ran, default=_NO_TESTS) or int(bool(self.left_out))
        self.console.print("tests", f"not all passed (exit code {worst})" if worst else "all passed")
        return worst


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
    startup.begin()
    raise SystemExit(main())
