"""`./test`: which tests run in which pytest, and what its last lines and its exit code say."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts import checks, setup, stack, steps, tools
from scripts.steps import StepFailed

WORKERS = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))


def commands(*given: str) -> dict[str, list[str]]:
    """What each pytest is given, without the interpreter and the report."""
    options, more = checks.arguments(given)
    return {run.name: run.command(options, more)[5:] for run in (checks.UNIT, checks.CLOUD) if run.command(options, more)}


def test_unit_tests_share_the_cores_and_tests_on_the_cloud_share_one_process() -> None:
    assert commands() == {
        "unit": ["-m", "not long", *WORKERS, "tests/tools", "tests/unit"],
        "cloud": ["-m", "not long", "-n", "0", "tests/cloud"],
    }
    assert commands("--all") == {
        "unit": [*WORKERS, "tests/tools", "tests/unit"],
        "cloud": ["-n", "0", "tests/cloud", "tests/machines"],
    }


def test_unit_alone_leaves_out_what_needs_a_program() -> None:
    assert commands("--unit")["unit"] == ["-m", "not long", *WORKERS, "tests/unit"]


def test_what_is_not_known_goes_to_every_pytest_and_the_cloud_stays_in_one_process() -> None:
    assert commands("-k", "verdict", "-n", "3") == {
        "unit": ["-m", "not long", *WORKERS, "-k", "verdict", "-n", "3", "tests/tools", "tests/unit"],
        "cloud": ["-m", "not long", "-k", "verdict", "-n", "3", "-n", "0", "tests/cloud"],
    }


def test_a_path_goes_to_the_pytest_of_its_folder_and_no_other_one_runs() -> None:
    assert commands("tests/cloud/test_identity.py::test_x", "-v") == {
        "cloud": ["-m", "not long", "-v", "-n", "0", "tests/cloud/test_identity.py::test_x"]
    }
    assert commands("tests/unit/drills/test_x.py", "tests/cloud/test_y.py") == {
        "unit": ["-m", "not long", "tests/unit/drills/test_x.py"],
        "cloud": ["-m", "not long", "-n", "0", "tests/cloud/test_y.py"],
    }
    assert commands("--unit", "tests/unit/drills")["unit"] == ["-m", "not long", *WORKERS, "tests/unit/drills"]
    assert commands("tests")["cloud"][-2:] == ["tests/cloud", "tests/machines"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--unit", "tests/cloud/test_api.py"], "needs the embedded cloud: leave out --unit"),
        (["tests/engine/test_cpu_numerics.py"], "is in none of tests/tools, tests/unit, tests/cloud, tests/machines"),
    ],
)
def test_a_path_that_no_pytest_would_run_is_refused(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        checks.arguments(given)
    assert said in capsys.readouterr().err


_PYTHON = """#!{python}
import sys
from pathlib import Path
here, given = Path(__file__).parent, sys.argv[1:]
with (here / "ran").open("a") as ran:
    print(*given, file=ran)
report = next((Path(argument.partition("=")[2]) for argument in given if argument.startswith("--junit-xml=")), None)
code = int((here / (report.stem if report else given[1])).read_text())
if report:
    report.parent.mkdir(exist_ok=True)
    report.write_text(f'<testsuites><testsuite tests="10" failures="{{int(code == 1)}}" errors="0" skipped="2" time="61"/></testsuites>')
sys.exit(code)
"""


@dataclass
class Machine:
    """A machine on which every program ends as it is told to, and which may be unable to carry a cloud."""

    folder: Path
    lacking: str = ""
    absent: set[str] = field(default_factory=set)
    """Programs that the set-up cannot get."""

    def ends(self, **codes: int) -> None:
        for name, code in codes.items():
            (self.folder / name).write_text(str(code))

    def check(self, *_: object) -> None:
        if self.lacking:
            raise StepFailed(self.lacking)

    def install(self, plan: list[steps.Step], *_: object) -> None:
        if absent := self.absent & {step.name for step in plan}:
            raise StepFailed(f"no {absent}")

    @property
    def tested(self) -> list[str]:
        """The folders that were given to pytest, in order."""
        return re.findall(r"tests/(?:tools|unit|cloud|machines)(?= |$)", (self.folder / "ran").read_text(), re.MULTILINE)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    it = Machine(tmp_path)
    python = tmp_path / "python"
    python.write_text(_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    it.ends(ruff=0, mypy=0, unit=0, cloud=0)
    monkeypatch.setattr(checks, "PYTHON", python)
    monkeypatch.setattr(checks, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(stack, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(stack, "take_down_leftovers", lambda console: None)
    monkeypatch.setattr(setup, "check_machine", it.check)
    monkeypatch.setattr(setup, "tool_path", list)
    monkeypatch.setattr(steps, "run", it.install)
    monkeypatch.setattr(tools, "terraform", lambda: Path("/usr/bin/terraform"))
    return it


def last_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.partition(" tests ")[2].strip() for line in capsys.readouterr().out.splitlines() if " tests  " in line]


def test_the_last_lines_sum_up_both_runs(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.main([]) == 0
    assert machine.tested == ["tests/tools", "tests/unit", "tests/cloud"]
    assert last_lines(capsys) == ["unit: 8 passed, 2 skipped in 1 min 01 s", "cloud: 8 passed, 2 skipped in 1 min 01 s", "all passed"]


def test_all_run_when_unit_tests_fail_and_the_exit_code_is_the_worst(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ends(unit=1)
    assert checks.main([]) == 1
    assert last_lines(capsys) == [
        "unit: 1 FAILED, 7 passed, 2 skipped in 1 min 01 s (exit code 1)",
        "cloud: 8 passed, 2 skipped in 1 min 01 s",
        "not all passed (exit code 1)",
    ]


@pytest.mark.parametrize(("code", "options"), [(1, ["-x"]), (2, []), (4, [])])
def test_the_cloud_does_not_come_up_for_tests_that_ended_early(
    machine: Machine, capsys: pytest.CaptureFixture[str], code: int, options: list[str]
) -> None:
    machine.ends(unit=code)
    assert checks.main(options) == code
    assert "tests/cloud" not in machine.tested
    assert "LEFT OUT: tests/cloud: the tests before ended early" in last_lines(capsys)


@pytest.mark.parametrize(("unit", "cloud", "code"), [(5, 0, 0), (0, 5, 0), (5, 1, 1), (5, 5, 5)])
def test_a_selection_may_leave_one_run_without_a_test_but_not_both(machine: Machine, unit: int, cloud: int, code: int) -> None:
    machine.ends(unit=unit, cloud=cloud)
    assert checks.main(["-k", "some"]) == code


def test_a_machine_that_cannot_carry_the_cloud_runs_the_rest_says_so_and_fails(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.lacking = "this machine lacks something (root)"
    machine.absent = {"browser"}
    assert checks.main([]) == 1
    assert machine.tested == ["tests/tools", "tests/unit"]
    assert "--ignore=tests/tools/test_chat_page.py" in (machine.folder / "ran").read_text()
    assert last_lines(capsys) == [
        "unit: 8 passed, 2 skipped in 1 min 01 s",
        "LEFT OUT: tests/cloud: this machine lacks something (root)",
        "LEFT OUT: tests/tools/test_chat_page.py: there is no browser, and it could not be installed",
        "not all passed (exit code 1)",
    ]


def test_tests_in_a_virtual_machine_run_beside_a_cloud_and_need_no_other_program(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def foreign(console: object) -> None:
        raise stack.ForeignCloud("an embedded cloud is up")

    monkeypatch.setattr(stack, "take_down_leftovers", foreign)
    machine.absent = {"terraform", "browser"}
    assert checks.main(["--all", "tests/machines"]) == 0
    assert machine.tested == ["tests/machines"]
    assert checks.main(["--all", "tests/machines", "tests/cloud"]) == 1


@pytest.mark.parametrize("given", [["--unit"], ["tests/unit"]])
def test_nothing_is_left_out_where_no_test_on_the_cloud_was_asked_for(machine: Machine, given: list[str]) -> None:
    machine.lacking = "this machine lacks something (root)"
    machine.absent = {"terraform", "browser"}
    assert checks.main(given) == 0
    assert machine.tested == ["tests/unit"]


def test_lint_and_types_end_the_run_before_any_test(machine: Machine) -> None:
    machine.ends(mypy=3)
    assert checks.main([]) == 3
    assert machine.tested == []


def test_a_pytest_that_was_killed_counts_as_failed(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.folder / "python").write_text('#!/bin/sh\n[ "$2" != pytest ] || kill -9 $$\n')
    assert checks.main(["--unit"]) == 137
    assert last_lines(capsys) == ["unit: no report (exit code 137)", "not all passed (exit code 137)"]
