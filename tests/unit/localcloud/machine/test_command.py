"""Programs that a build runs: their output is followed, they are stopped in time, and errors explain a failure."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from localcloud.build import command
from localcloud.build.command import BuildError, run_logged
from localcloud.progress import Pace


def gone(pid: int, within: float = 60.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_every_line_of_output_is_followed_and_logged(tmp_path: Path) -> None:
    seen: list[str] = []

    def follow(line: str) -> str:
        seen.append(line)
        return line

    run_logged(["sh", "-c", "echo one; echo two >&2"], what="it", log=tmp_path / "log", report=print, deadline=60, follow=follow)
    assert seen == ["one", "two"]
    assert (tmp_path / "log").read_text().splitlines()[1:] == ["one", "two"]


def test_progress_is_reported_while_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Pace", lambda: Pace(first=0.1))
    heard = tmp_path / "heard"

    def report(line: str) -> None:
        if line.endswith(": is half way"):
            heard.touch()

    script = f"echo half way; until [ -e {heard} ]; do sleep 0.1; done"
    run_logged(
        ["sh", "-c", script],
        what="it",
        log=tmp_path / "log",
        report=report,
        deadline=60,
        doing="starting",
        follow=lambda line: f"is {line}",
    )
    assert heard.exists()


def test_the_error_of_a_failed_program_has_its_exit_code_and_the_last_lines_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(BuildError) as failure:
        run_logged(["sh", "-c", "seq 40; echo no space left; exit 3"], what="compiling it", log=log, report=print, deadline=60)
    text = str(failure.value)
    assert re.match(r"compiling it failed after \d+ s \(exit code 3\)", text)
    assert str(log) in text
    assert text.rstrip().endswith("no space left")
    assert "\n5\n" not in text, "only the last lines"


def test_a_program_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BuildError, match="no-such-program is not installed"):
        run_logged(["no-such-program"], what="it", log=tmp_path / "log", report=print, deadline=60)


def written(path: Path) -> bool:
    return path.exists() and bool(path.read_text().strip())


def test_at_the_deadline_the_program_and_its_children_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child"
    late = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * written(child), sleep=time.sleep)
    monkeypatch.setattr(command, "time", late)
    script = f"sleep 600 & echo $! > {child}; wait"
    with pytest.raises(BuildError, match="was not done after"):
        run_logged(["sh", "-c", script], what="it", log=tmp_path / "log", report=print, deadline=60)
    assert gone(int(child.read_text()))


def test_the_program_of_a_killed_build_ends_too(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from localcloud.build.command import run_logged\n"
        f"run_logged(['sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 600'], what='it',"
        f" log=Path('{tmp_path}/log'), report=print, deadline=600)"
    )
    build = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not written(tmp_path / "pid"):
        assert time.monotonic() < deadline, "the program did not start"
        time.sleep(0.05)
    os.kill(build.pid, signal.SIGKILL)
    build.wait(60)
    assert gone(int((tmp_path / "pid").read_text()))
