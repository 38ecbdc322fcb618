"""The services' first process: what it starts lives exactly as long as it should."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.services import inside
from scripts.services.services import prefect_environment
from scripts.support.places import ROOT
from scripts.support.processes import Process, can_contain, children, namespaces

pytestmark = pytest.mark.skipif(not can_contain(), reason="this machine allows no pid namespace")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that stands for "the server answers"."""
    (tmp_path / "gate").touch()
    return tmp_path / "gate"


class Started:
    """`scripts.services.inside` in its namespace, with toy programs."""

    def __init__(self, programs: dict[str, str], gate: Path, again: tuple[str, ...] = ()) -> None:
        self.popen = subprocess.Popen(
            namespaces([sys.executable, "-m", "scripts.services.inside"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        commands = {name: ["bash", "-c", script] for name, script in programs.items()}
        self.say(json.dumps({"programs": commands, "gate": gate.as_uri(), "again": again}).encode() + b"\n")

    def say(self, words: bytes) -> None:
        assert self.popen.stdin
        self.popen.stdin.write(words)
        self.popen.stdin.flush()

    def until_said(self, words: str) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            if words in line.decode():
                return
        raise AssertionError(f"it ended without saying {words!r}")

    @property
    def programs(self) -> list[Process]:
        unshare = Process.of(self.popen.pid)
        assert unshare
        return [program for first in children(unshare) for program in children(first)]


@pytest.fixture
def toys(gate: Path) -> Iterator[Started]:
    """Two programs that run on, one of which has left an orphan."""
    started = Started({"server": "sleep 60; exit", "worker": "setsid sleep 60 & sleep 60; exit"}, gate)
    yield started
    started.popen.kill()
    started.popen.wait()


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def wait_for_programs(toys: Started, count: int = 2) -> list[Process]:
    until(f"{count} programs are up", lambda: len(toys.programs) >= count)
    return toys.programs


def test_everything_ends_when_the_starter_is_gone(toys: Started) -> None:
    programs = wait_for_programs(toys)
    assert toys.popen.stdin
    toys.popen.stdin.close()
    assert toys.popen.wait(60) == 2
    assert not any(program.alive for program in programs)


def test_everything_stays_when_the_starter_said_so_before_it_went(toys: Started) -> None:
    programs = wait_for_programs(toys)
    toys.say(inside.KEEP)
    assert toys.popen.stdin
    toys.popen.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        toys.popen.wait(2)
    assert all(program.alive for program in programs)


@pytest.mark.parametrize("victim", ["first process", "unshare"])
def test_a_kill_of_the_namespace_leaves_nothing(toys: Started, victim: str) -> None:
    programs = wait_for_programs(toys)
    unshare = Process.of(toys.popen.pid)
    assert unshare
    (first,) = children(unshare)
    (first if victim == "first process" else unshare).signal(signal.SIGKILL)
    for process in (*programs, first):
        assert process.gone_within(60)


def test_a_program_that_ends_is_the_end_of_all(toys: Started) -> None:
    programs = wait_for_programs(toys)
    programs[0].signal(signal.SIGKILL)
    toys.until_said("ended with exit code -9")
    assert toys.popen.wait(60) == 1
    assert not any(program.alive for program in programs)


def test_a_program_that_keeps_nothing_is_started_again(gate: Path) -> None:
    started = Started({"server": "sleep 60; exit", "worker": f"sleep {inside.SETTLED_S + 0.5}; exit 3"}, gate, again=("worker",))
    try:
        started.until_said("started worker")
        started.until_said("worker ended with exit code 3")
        started.until_said("started worker")
        assert len(wait_for_programs(started)) == 2
    finally:
        started.popen.kill()
        started.popen.wait()


def test_one_that_ends_as_soon_as_it_begins_is_the_end_of_all_even_so(gate: Path) -> None:
    started = Started({"server": "sleep 60; exit", "worker": "exit 3"}, gate, again=("worker",))
    assert started.popen.wait(60) == 1


def test_orphans_are_buried(gate: Path) -> None:
    over = gate.with_name("over")
    started = Started({"worker": f"(setsid sh -c 'sleep 0.2; touch {over}' &) ; sleep 60; exit"}, gate)
    try:
        wait_for_programs(started, 1)
        unshare = Process.of(started.popen.pid)
        assert unshare
        (first,) = children(unshare)
        everyone = Path(f"/proc/{first.pid}/task/{first.pid}/children")
        until("the orphan ends", over.exists)
        until("an ended orphan is no zombie", lambda: len(everyone.read_text().split()) == 1)
    finally:
        started.popen.kill()
        started.popen.wait()


def test_a_worker_waits_until_the_server_answers(tmp_path: Path) -> None:
    started = Started({"server": "sleep 60; exit", "worker": "sleep 60; exit"}, tmp_path / "gate")
    try:
        started.until_said("started server")
        time.sleep(1.2)
        assert len(started.programs) == 1
        (tmp_path / "gate").touch()
        started.until_said("started worker")
    finally:
        started.popen.kill()
        started.popen.wait()


def test_nothing_of_the_users_own_prefect_or_aws_reaches_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    monkeypatch.setenv("AWS_PROFILE", "production")
    environment = prefect_environment("http://127.0.0.1:4299/api", [Path("/tools")])
    assert not {"PREFECT_API_KEY", "AWS_PROFILE"} & environment.keys()
    assert environment["PATH"].startswith("/tools:")
    assert environment["PREFECT_SERVER_API_PORT"] == "4299"


def test_nothing_listens_outside_loopback_and_nothing_phones_home() -> None:
    environment = prefect_environment("http://127.0.0.1:4200/api", [])
    assert environment["PREFECT_WORKER_WEBSERVER_HOST"] == environment["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"
