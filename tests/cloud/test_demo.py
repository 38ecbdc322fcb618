"""`./demo` as a user runs it: it passes, it can be stopped at any moment, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine_state import find_leftovers
from system_under_test import System

from scripts.services.prefect_api import DIRECT
from scripts.support.paths import ROOT
from scripts.support.processes import Process, children

pytestmark = pytest.mark.long
WITHIN_S = 40 * 60


class Demo:
    """A `./demo` that was started, and its output so far."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        # A lock of its own, because the test run, its parent, holds the usual one.
        environment = {**os.environ, "LEEWARD_LOCK": str(log.parent / "lock")}
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [str(ROOT / "demo"), "--verbose", *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, pattern: str) -> None:
        """Wait until its output matches the pattern."""
        deadline = time.monotonic() + WITHIN_S
        while not re.search(pattern, self.output):
            assert self.popen.poll() is None, f"it ended without printing {pattern!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"it did not print {pattern!r}:\n{self.output}"
            time.sleep(0.2)

    def end(self) -> int:
        """Wait for its end; return the exit code."""
        return self.popen.wait(WITHIN_S)


@pytest.fixture
def demo(taken_down: System, tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """A function that starts demos; what they leave up is taken down after the test."""
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(tmp_path / f"demo-{len(started)}.log", *arguments))
        return started[-1]

    yield start
    for run in started:
        run.popen.kill()
        run.popen.wait()
    assert start("--down").end() == 0


def test_a_demo_passes_and_leaves_nothing(taken_down: System, demo: Callable[..., Demo]) -> None:
    run = demo()
    assert run.end() == 0, run.output
    assert "PASSED" in run.output
    (report,) = re.findall(r"^report +(\S+)$", run.output, re.MULTILINE)
    assert Path(report).exists()
    assert find_leftovers() == []


def test_a_demo_with_a_failed_verdict_exits_with_1_and_leaves_nothing(taken_down: System, demo: Callable[..., Demo]) -> None:
    run = demo("--no-gcs-fault-tolerance")
    assert run.end() == 1, run.output
    assert "FAILED" in run.output
    assert find_leftovers() == []


STAGES = ("setup", "provision", "deploy", "drill")
STAGE_OUTPUT = {"setup": " terraform +using", "provision": r"provision +\w.* …", "deploy": r"deploy +\w.* …", "drill": r"drill +\w.* …"}


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_takes_everything_down_and_a_second_one_prints_the_activity(
    taken_down: System, demo: Callable[..., Demo], stage: str
) -> None:
    run = demo()
    run.until(STAGE_OUTPUT[stage])
    run.popen.send_signal(signal.SIGINT)
    run.until("taking everything down")
    run.popen.send_signal(signal.SIGINT)
    assert run.end() == 130, run.output
    assert find_leftovers() == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_demo_that_got_sigkill_can_be_taken_down(taken_down: System, demo: Callable[..., Demo], stage: str) -> None:
    run = demo()
    run.until(STAGE_OUTPUT[stage])
    run.popen.kill()
    run.popen.wait()
    assert demo("--down").end() == 0
    assert find_leftovers() == []


@pytest.mark.parametrize("victim", ["the services", "the supervisor of the cloud"])
def test_a_demo_reports_killed_parts_and_cleans_up(taken_down: System, demo: Callable[..., Demo], victim: str) -> None:
    run = demo()
    run.until(STAGE_OUTPUT["provision"])
    me = Process.find(run.popen.pid)
    assert me
    if victim == "the services":
        for child in children(me):
            child.signal(signal.SIGKILL)
    else:
        subprocess.run([str(ROOT / ".venv/bin/python"), "-m", "localcloud", "down"], cwd=ROOT, check=True)
    assert run.end() == 1, run.output
    assert re.search(r" error ", run.output)
    assert find_leftovers() == []


def test_a_second_demo_is_refused_and_down_stops_the_first(taken_down: System, demo: Callable[..., Demo]) -> None:
    first = demo()
    first.until(STAGE_OUTPUT["setup"])
    second = demo()
    assert second.end() == 1
    assert str(first.popen.pid) in second.output
    assert demo("--down").end() == 0
    assert first.end() == 130
    assert find_leftovers() == []


def test_a_kept_demo_answers_on_loopback_until_it_is_taken_down(taken_down: System, demo: Callable[..., Demo]) -> None:
    run = demo("--keep")
    assert run.end() == 0, run.output
    addresses = re.findall(r"http://127\.0\.0\.1:\S+", run.output.split("Everything is left up")[1])
    assert len(addresses) == 4, "Prefect, Ray's dashboard, the model, the chat"
    for address in addresses:
        with DIRECT.open(address, timeout=30) as answer:
            assert answer.status == 200, address
    (model,) = [address for address in addresses if "/infer" in address]
    with DIRECT.open(model.replace("Hello", "What%20is%20the%20capital%20of%20France%3F"), timeout=60) as answer:
        assert json.load(answer) == ["The capital of France is Paris."]
    (config,) = re.findall(r"KUBECONFIG=(\S+)", run.output)
    (kubectl,) = re.findall(r"(\S+/kubectl) get pods -A", run.output)
    pods = subprocess.run([kubectl, f"--kubeconfig={config}", "get", "pods", "-A"], capture_output=True, text=True, timeout=60, check=True)
    assert "mistral" in pods.stdout
    assert demo("--down").end() == 0
    assert find_leftovers() == []
