"""PID 1 of the services: the programs that it starts run exactly as long as they should."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.services import pid1
from scripts.services.services import prefect_environment
from scripts.support.paths import ROOT
from scripts.support.processes import Process, can_contain, children, in_pid_namespace
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(not can_contain(), reason="this machine allows no pid namespace")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file whose existence stands for "the server answers"."""
    (tmp_path / "gate").touch()
    return tmp_path / "gate"


class Started:
    """`scripts.services.pid1` in its namespace, with small shell programs."""

    def __init__(self, programs: dict[str, str], gate: Path, **options: Any) -> None:
        self.popen = subprocess.Popen(
            in_pid_namespace([sys.executable, "-m", "scripts.services.pid1"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        commands = {name: ["bash", "-c", script] for name, script in programs.items()}
        self.write(json.dumps({"commands": commands, "gate": gate.as_uri(), **options}).encode() + b"\n")

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        with self.popen:  # closes its pipes
            self.popen.kill()

    def write(self, words: bytes) -> None:
        assert self.popen.stdin
        self.popen.stdin.write(words)
        self.popen.stdin.flush()

    def until_printed(self, words: str) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            if words in line.decode():
                return
        raise AssertionError(f"it ended without printing {words!r}")

    @property
    def programs(self) -> list[Process]:
        unshare = Process.find(self.popen.pid)
        assert unshare
        return [program for first in children(unshare) for program in children(first)]


@pytest.fixture
def started(gate: Path) -> Iterator[Started]:
    """Two programs that go on running, one of which has an orphan."""
    with Started({"server": "sleep 60; exit", "worker": "setsid sleep 60 & sleep 60; exit"}, gate) as started:
        yield started


def wait_for_programs(started: Started, count: int = 2) -> list[Process]:
    eventually(lambda: len(started.programs) >= count, what=f"{count} programs are up")
    return started.programs


def test_all_programs_end_when_the_pipe_closes(started: Started) -> None:
    programs = wait_for_programs(started)
    assert started.popen.stdin
    started.popen.stdin.close()
    assert started.popen.wait(60) == 2
    assert not any(program.alive for program in programs)


def test_all_programs_go_on_when_the_pipe_closes_after_keep_was_written(started: Started) -> None:
    programs = wait_for_programs(started)
    started.write(pid1.KEEP)
    assert started.popen.stdin
    started.popen.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        started.popen.wait(2)
    assert all(program.alive for program in programs)


@pytest.mark.parametrize("victim", ["first process", "unshare"])
def test_a_kill_of_the_namespace_leaves_no_process(started: Started, victim: str) -> None:
    programs = wait_for_programs(started)
    unshare = Process.find(started.popen.pid)
    assert unshare
    (first,) = children(unshare)
    (first if victim == "first process" else unshare).signal(signal.SIGKILL)
    for process in (*programs, first):
        assert process.ended_within(60)


def test_all_programs_end_when_one_ends(started: Started) -> None:
    programs = wait_for_programs(started)
    programs[0].signal(signal.SIGKILL)
    started.until_printed("ended with exit code -9")
    assert started.popen.wait(60) == 1
    assert not any(program.alive for program in programs)


def test_a_program_that_may_be_restarted_is_started_again_when_it_ends(gate: Path) -> None:
    programs = {"server": "sleep 60; exit", "worker": "sleep 1; exit 3"}
    with Started(programs, gate, restarted=("worker",), settled_s=0.5) as started:
        started.until_printed("started worker")
        started.until_printed("worker ended with exit code 3")
        started.until_printed("started worker")
        assert len(wait_for_programs(started)) == 2


def test_all_programs_end_when_a_restartable_one_ends_right_after_its_start(gate: Path) -> None:
    with Started({"server": "sleep 60; exit", "worker": "exit 3"}, gate, restarted=("worker",)) as started:
        assert started.popen.wait(60) == 1


def test_ended_orphans_are_reaped(gate: Path) -> None:
    over = gate.with_name("over")
    with Started({"worker": f"(setsid sh -c 'sleep 0.2; touch {over}' &) ; sleep 60; exit"}, gate) as started:
        wait_for_programs(started, 1)
        unshare = Process.find(started.popen.pid)
        assert unshare
        (first,) = children(unshare)
        members = Path(f"/proc/{first.pid}/task/{first.pid}/children")
        eventually(over.exists, what="the orphan ends")
        eventually(lambda: len(members.read_text().split()), 1, what="the ended orphan is no zombie")


def test_the_second_program_starts_only_when_the_server_answers(tmp_path: Path) -> None:
    with Started({"server": "sleep 60; exit", "worker": "sleep 60; exit"}, tmp_path / "gate") as started:
        started.until_printed("started server")
        time.sleep(1.2)
        assert len(started.programs) == 1
        (tmp_path / "gate").touch()
        started.until_printed("started worker")


def test_prefect_and_aws_variables_of_the_user_do_not_reach_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    monkeypatch.setenv("AWS_PROFILE", "production")
    environment = prefect_environment("http://127.0.0.1:4299/api", [Path("/tools")])
    assert not {"PREFECT_API_KEY", "AWS_PROFILE"} & environment.keys()
    assert environment["PATH"].startswith("/tools:")
    assert environment["PREFECT_SERVER_API_PORT"] == "4299"


def test_the_services_listen_on_loopback_only_and_send_no_telemetry() -> None:
    environment = prefect_environment("http://127.0.0.1:4200/api", [])
    assert environment["PREFECT_WORKER_WEBSERVER_HOST"] == environment["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize("variable", ["ALL_PROXY", "http_proxy"])
def test_a_socks_proxy_does_not_keep_prefects_client_from_starting(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "socks5h://127.0.0.1:1080")
    environment = prefect_environment("http://127.0.0.1:4299/api", [])
    subprocess.run([sys.executable, "-c", "import httpx; httpx.Client()"], env=environment, check=True, timeout=60)
