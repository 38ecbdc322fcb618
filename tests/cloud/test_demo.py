"""`./demo` as a user has it: it passes, it can be stopped anywhere, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine_state import find_leftovers
from system_under_test import System

from scripts.support.paths import ROOT
from scripts.support.processes import Process, children

pytestmark = pytest.mark.long
WITHIN_S = 40 * 60


class Demo:
    """A `./demo` that runs, and everything it has said so far."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        # Its own lock: the test run, whose child it is, holds the usual one.
        environment = {**os.environ, "LEEWARD_LOCK": str(log.parent / "lock")}
        with log.open("wb") as out:
            self.popen = subprocess.Popen([str(ROOT / "demo"), *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, pattern: str) -> None:
        """Waits until it has said something that matches."""
        deadline = time.monotonic() + WITHIN_S
        while not re.search(pattern, self.said):
            assert self.popen.poll() is None, f"it ended without saying {pattern!r}:\n{self.said}"
            assert time.monotonic() < deadline, f"it did not say {pattern!r}:\n{self.said}"
            time.sleep(0.2)

    def end(self) -> int:
        """Its exit code."""
        return self.popen.wait(WITHIN_S)


@pytest.fixture
def demo(taken_down: System, tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts demos; whatever they leave up is taken down at the end."""
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(tmp_path / f"demo-{len(started)}.log", *arguments))
        return started[-1]

    yield start
    for one in started:
        one.popen.kill()
        one.popen.wait()
    assert start("--down").end() == 0


def test_it_passes_and_leaves_nothing(taken_down: System, demo: Callable[..., Demo]) -> None:
    one = demo()
    assert one.end() == 0, one.said
    assert "PASSED" in one.said
    (report,) = re.findall(r"^report +(\S+)$", one.said, re.MULTILINE)
    assert Path(report).exists()
    assert find_leftovers() == []


def test_a_failed_verdict_is_its_exit_code(taken_down: System, demo: Callable[..., Demo]) -> None:
    one = demo("--no-gcs-fault-tolerance")
    assert one.end() == 1, one.said
    assert "FAILED" in one.said
    assert find_leftovers() == []


STAGES = ("setup", "provision", "deploy", "drill")
SAYS = {"setup": " terraform +using", "provision": r"provision +\w.* …", "deploy": r"deploy +\w.* …", "drill": r"drill +\w.* …"}


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_takes_everything_down_and_a_second_one_is_answered(taken_down: System, demo: Callable[..., Demo], stage: str) -> None:
    one = demo()
    one.until(SAYS[stage])
    one.popen.send_signal(signal.SIGINT)
    one.until("taking everything down")
    one.popen.send_signal(signal.SIGINT)
    assert one.end() == 130, one.said
    assert find_leftovers() == []


@pytest.mark.parametrize("stage", STAGES)
def test_after_a_sigkill_it_can_be_taken_down(taken_down: System, demo: Callable[..., Demo], stage: str) -> None:
    one = demo()
    one.until(SAYS[stage])
    one.popen.kill()
    one.popen.wait()
    assert demo("--down").end() == 0
    assert find_leftovers() == []


@pytest.mark.parametrize("victim", ["the services", "the supervisor of the cloud"])
def test_a_demo_whose_parts_are_killed_says_so_and_cleans_up(taken_down: System, demo: Callable[..., Demo], victim: str) -> None:
    one = demo()
    one.until(SAYS["provision"])
    me = Process.find(one.popen.pid)
    assert me
    if victim == "the services":
        for child in children(me):
            child.signal(signal.SIGKILL)
    else:
        subprocess.run([str(ROOT / ".venv/bin/python"), "-m", "localcloud", "down"], cwd=ROOT, check=True)
    assert one.end() == 1, one.said
    assert re.search(r" error ", one.said)
    assert find_leftovers() == []


def test_a_second_demo_is_refused_and_down_stops_the_first(taken_down: System, demo: Callable[..., Demo]) -> None:
    first = demo()
    first.until(SAYS["setup"])
    second = demo()
    assert second.end() == 1
    assert str(first.popen.pid) in second.said
    assert demo("--down").end() == 0
    assert first.end() == 130
    assert find_leftovers() == []


def test_a_kept_demo_answers_on_loopback_until_it_is_taken_down(taken_down: System, demo: Callable[..., Demo]) -> None:
    one = demo("--keep")
    assert one.end() == 0, one.said
    places = re.findall(r"http://127\.0\.0\.1:\S+", one.said.split("Everything is left up")[1])
    assert len(places) == 4, "Prefect, Ray's dashboard, the model, the chat"
    for place in places:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(place, timeout=30) as answer:
            assert answer.status == 200, place
    (config,) = re.findall(r"KUBECONFIG=(\S+)", one.said)
    (kubectl,) = re.findall(r"(\S+/kubectl) get pods -A", one.said)
    pods = subprocess.run([kubectl, f"--kubeconfig={config}", "get", "pods", "-A"], capture_output=True, text=True, timeout=60, check=True)
    assert "mistral" in pods.stdout
    assert demo("--down").end() == 0
    assert find_leftovers() == []
