"""The cloud comes up and goes down completely, and a kill at any moment leaves nothing behind.

They run before the session's own cloud is up. The first tests share a cloud; each other one starts and ends without one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_state import command_line

from localcloud import paths, settings
from localcloud.host import leftovers, state
from localcloud.machine import cgroups
from tests.waiting import eventually

LOCALCLOUD = [sys.executable, "-m", "localcloud"]


def localcloud(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LOCALCLOUD, *arguments], capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def running(alone: None) -> Iterator[None]:
    """A cloud for the tests that only look at it."""
    assert localcloud("down").returncode == 0
    done = localcloud("up")
    assert done.returncode == 0, done.stderr
    yield
    assert localcloud("down").returncode == 0


@pytest.fixture
def no_cloud(alone: None) -> Iterator[None]:
    assert localcloud("down").returncode == 0
    yield
    assert localcloud("down").returncode == 0


@pytest.fixture
def up(no_cloud: None) -> None:
    done = localcloud("up")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def coming_up(no_cloud: None) -> Iterator[subprocess.Popen[str]]:
    """An `up` that is still running and whose cloud has processes already."""
    process = subprocess.Popen([*LOCALCLOUD, "up"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: bool(cgroups.processes()), what="the first process of the cloud")
    yield process
    process.kill()
    process.communicate()


def commands() -> dict[int, str]:
    """Return pid, as the host sees it, and command line of the cloud's processes."""
    return {pid: command_line(pid) for pid in cgroups.processes()}


def pid_of(words: str) -> int:
    """Return the pid of the cloud's process with these words in its command line, the outermost of several."""
    return min(pid for pid, command in commands().items() if words in command)


def test_a_second_up_is_refused_and_the_running_cloud_stays_healthy(running: None) -> None:
    second = localcloud("up")
    assert second.returncode == 1
    assert "room for one" in second.stderr
    assert state.endpoint_problem() is None


def test_env_returns_what_clients_need_and_only_the_owner_can_read_it(running: None) -> None:
    environment = json.loads(localcloud("env", "--json").stdout)
    assert environment["endpoint_url"] == settings.AWS_ENDPOINT_URL
    assert "BEGIN CERTIFICATE" in environment["redis_ca_pem"]
    assert Path(environment["base_image"]).is_file()
    assert state.ENVIRONMENT.stat().st_mode & 0o777 == 0o600
    assert paths.DATA_DIR.stat().st_mode & 0o777 == 0o700
    secret = environment["secret_access_key"]
    assert f"export AWS_SECRET_ACCESS_KEY={secret}" in localcloud("env").stdout
    assert not [command for command in commands().values() if secret in command]
    assert not [log for log in state.LOGS.iterdir() if secret in log.read_text(errors="replace")]


def test_status_reports_whether_a_cloud_is_up_and_down_leaves_nothing_of_it(running: None) -> None:
    status = json.loads(localcloud("status", "--json").stdout)
    assert status["up"]
    assert status["memory_bytes"] > 10**7
    down = localcloud("down")
    assert down.returncode == 0, down.stdout
    assert leftovers.find() == []
    assert not paths.DATA_DIR.exists()
    none = localcloud("status", "--json")
    assert (none.returncode, json.loads(none.stdout)["up"]) == (1, False)


def test_env_fails_without_a_cloud_and_says_how_to_start_one(no_cloud: None) -> None:
    done = localcloud("env")
    assert (done.returncode, done.stdout) == (1, "")
    assert "python -m localcloud up" in done.stderr


@pytest.mark.parametrize("victim", ["unshare --pid", "localcloud supervise"])
def test_a_kill_of_the_first_process_ends_the_whole_cloud_and_status_removes_its_files(up: None, victim: str) -> None:
    os.kill(pid_of(victim), signal.SIGKILL)
    eventually(lambda: not cgroups.processes(), what="the end of every process")
    eventually(lambda: not Path("/sys/class/net", settings.UPLINK).exists(), what="the end of the uplink")
    status = json.loads(localcloud("status", "--json").stdout)
    assert status["left"] == []
    assert leftovers.find() == []
    assert (leftovers.CRASH_LOGS / "supervisor.log").exists(), "the logs of a killed cloud are kept"


def test_up_works_again_at_once_after_the_cloud_was_killed(up: None) -> None:
    os.kill(pid_of("localcloud supervise"), signal.SIGKILL)
    eventually(lambda: not cgroups.processes(), what="the end of every process")
    again = localcloud("up")
    assert again.returncode == 0, again.stderr
    assert "removing what a cloud that died left" in again.stdout


def test_a_kill_of_up_also_ends_the_cloud_that_it_was_starting(coming_up: subprocess.Popen[str]) -> None:
    coming_up.kill()
    eventually(lambda: not cgroups.processes(), what="the end of every process")
    assert localcloud("down").returncode == 0
    assert leftovers.find() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_up_that_is_interrupted_leaves_nothing(coming_up: subprocess.Popen[str], number: signal.Signals) -> None:
    coming_up.send_signal(number)
    assert coming_up.wait(120) == 130
    assert leftovers.find() == []


def test_a_down_ends_an_up_that_is_still_running(coming_up: subprocess.Popen[str]) -> None:
    assert localcloud("down").returncode == 0
    assert coming_up.wait(120) == 1
    assert leftovers.find() == []
