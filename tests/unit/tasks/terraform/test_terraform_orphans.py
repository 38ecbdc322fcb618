"""A terraform that has outlived its flow run can be stopped, and no other process is."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.terraform.lock import ProcessRecords, TerraformProcess
from tasks.terraform.orphans import living, stop


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads its own session, as terraform processes of the pipeline do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it, and its children too
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    signal.signal(signal.SIGINT, before)
    yield process
    process.kill()
    process.wait()


def _reaped(process: subprocess.Popen[bytes]) -> None:
    """Reap the process at once, as init would."""
    threading.Thread(target=process.wait, daemon=True).start()


def test_running_terraforms_of_all_stacks_are_found(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    runner = TerraformProcess.of_pid(sleeper.pid)
    ProcessRecords(tmp_path / "one/runs").add(runner)
    ProcessRecords(tmp_path / "two/runs").add(replace(runner, start_tick=1))
    assert living(tmp_path) == [runner]
    assert living(tmp_path / "nowhere") == []


def test_an_orphan_gets_sigint_first(sleeper: subprocess.Popen[bytes]) -> None:
    _reaped(sleeper)
    stop([TerraformProcess.of_pid(sleeper.pid)])
    assert sleeper.wait(60) == -signal.SIGINT


def test_an_orphan_that_ignores_sigint_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"trap '' INT; sleep 60 & echo $! > {tmp_path}/child; wait; sleep 60"
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    _until(lambda: _text(tmp_path / "child"))
    _reaped(process)
    stop([TerraformProcess.of_pid(process.pid)], grace_s=0.3)
    assert process.wait(60) == -signal.SIGKILL
    stat = Path(f"/proc/{_text(tmp_path / 'child')}/stat")
    _until(lambda: _text(stat).rpartition(")")[2].split()[:1] in ([], ["Z"]))


def _until(so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def _text(path: Path) -> str:
    """The text of the file; empty: there is no file."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def test_another_process_with_the_orphans_pid_is_not_stopped(sleeper: subprocess.Popen[bytes]) -> None:
    stop([replace(TerraformProcess.of_pid(sleeper.pid), start_tick=1)])
    assert sleeper.poll() is None
    os.kill(sleeper.pid, 0)
