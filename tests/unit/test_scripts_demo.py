"""The command line of `./demo` and `./test`, and what a Ctrl-C does."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest

from scripts import checks, demo
from scripts.interrupts import Interrupted, Interrupts
from scripts.say import Say


def chosen(*given: str) -> list[str]:
    return demo.parameters(demo.arguments(given))[1::2]


def test_the_run_is_the_documented_one() -> None:
    assert chosen() == ["target=embedded"]


def test_options_become_parameters_and_the_users_own_come_last() -> None:
    assert chosen("--keep") == ["target=embedded", "keep=true"]
    assert chosen("--no-gcs-fault-tolerance") == ["target=embedded", 'infrastructure={"enable_gcs_ha": false}']
    assert chosen("--keep", "-p", "keep=false", "--param", 'drill="head-pod-forced"')[-2:] == ["keep=false", 'drill="head-pod-forced"']


def test_evidence_is_found_by_the_name_of_the_run_or_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "EVIDENCE", tmp_path)
    assert demo.evidence("name", "id") is None
    for folder in ("id", "name"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "evidence.json").touch()
        assert demo.evidence("name", "id") == tmp_path / folder / "evidence.json"


def test_the_first_signal_interrupts_and_the_second_is_answered() -> None:
    out = io.StringIO()
    with Interrupts(Say(out), "taking everything down") as interrupts:
        with pytest.raises(Interrupted, match="Ctrl-C"):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.shielded
    assert out.getvalue().count("taking everything down") == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_every_signal_that_ends_a_program_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with Interrupts(Say(io.StringIO())), pytest.raises(Interrupted):
            os.kill(os.getpid(), number)


def pytest_arguments(*given: str) -> list[str]:
    options, more = checks.arguments(given)
    return checks.pytest_command(options, more)[3:]


def test_unit_tests_come_before_those_on_the_cloud_and_long_ones_are_asked_for() -> None:
    assert pytest_arguments() == ["-m", "not long", "tests/unit", "tests/cloud"]
    assert pytest_arguments("--all") == ["tests/unit", "tests/cloud"]
    assert pytest_arguments("--unit") == ["-m", "not long", "tests/unit"]


def test_what_is_not_known_goes_to_pytest() -> None:
    assert pytest_arguments("--unit", "-k", "verdict", "-x") == ["-m", "not long", "-k", "verdict", "-x", "tests/unit"]
    assert pytest_arguments("tests/cloud/test_identity.py::test_x") == ["-m", "not long", "tests/cloud/test_identity.py::test_x"]
