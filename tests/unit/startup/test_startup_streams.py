"""Programs that begin with `startup.begin()` finish their work whatever happens to the reader of their output."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import signal, sys, time
import startup
from scripts.support.console import Console
from scripts.support.interrupts import Interrupted, Interrupts
from pathlib import Path

startup.begin()
console, done = Console(), Path(sys.argv[1])
with Interrupts(console) as interrupts:
    try:
        Path(sys.argv[1] + ".ready").touch()
        for count in range(int(sys.argv[2])):
            console.print("run", "… a line ≥ 1 ✔ " + "x" * 80)
            print("a line by print", file=sys.stderr)
            time.sleep(0.01)
    except Interrupted as interrupted:
        console.print("stop", str(interrupted))
    interrupts.shielded = True
    for _ in range(20):
        console.print("end", "cleaning up")
        print("cleaning up")
    done.write_text("cleaned up")
"""
"""A demo in small: it prints, is interrupted or not, then cleans up and prints that."""


def start(done: Path, lines: int = 30, *, nohup: bool = False, environment: Mapping[str, str] | None = None, **more: object) -> Any:
    def set_sighup() -> None:  # the tests themselves may run under nohup
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

    program = done.with_name("program.py")
    program.write_text(PROGRAM, encoding="utf-8")
    path = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(program), str(done), str(lines)]
    return subprocess.Popen(command, env={**os.environ, **(environment or {}), **path}, preexec_fn=set_sighup, **more)  # type: ignore[call-overload]


@pytest.fixture
def done(tmp_path: Path) -> Path:
    return tmp_path / "done"


def until_ready(done: Path) -> None:
    eventually(done.with_name("done.ready").exists, what="the program runs")


def test_a_reader_that_ends_early_does_not_end_the_program(done: Path) -> None:
    program = start(done, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert program.stdout
    program.stdout.readline()
    program.stdout.close()
    assert program.wait(60) == 0
    assert done.read_text() == "cleaned up"


def test_a_ctrl_c_that_also_ends_the_reader_leads_to_a_complete_clean_up(done: Path) -> None:
    program = start(done, 10_000, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until_ready(done)
    assert program.stdout
    program.stdout.close()
    program.send_signal(signal.SIGINT)
    assert program.wait(60) == 0
    assert done.read_text() == "cleaned up"


def test_a_reader_that_lives_and_does_not_read_does_not_hold_up_the_clean_up(done: Path) -> None:
    with start(done, 10_000, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as program:
        until_ready(done)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(3)  # the pipe is full: as long as there is no signal, it waits
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0
    assert done.read_text() == "cleaned up"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM])
def test_a_terminal_that_is_closed_leads_to_a_complete_clean_up(done: Path, number: signal.Signals) -> None:
    ours, theirs = pty.openpty()
    program = start(done, 10_000, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    until_ready(done)
    os.close(ours)
    program.send_signal(number)
    assert program.wait(60) == 0
    assert done.read_text() == "cleaned up"


def test_a_program_under_nohup_outlives_the_terminal(done: Path) -> None:
    program = start(done, 100, nohup=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until_ready(done)
    program.send_signal(signal.SIGHUP)
    assert program.wait(60) == 0
    assert done.read_text() == "cleaned up"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_give_their_numbers_to_files(done: Path, closed: str) -> None:
    command = f'exec "$0" -c "$1" "$2" 3 {closed}'
    subprocess.run(["bash", "-c", command, sys.executable, PROGRAM, str(done)], cwd=ROOT, check=True, timeout=60, capture_output=True)
    assert done.read_text() == "cleaned up"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_the_output_does_not_end_the_program(done: Path) -> None:
    with open("/dev/full", "wb") as full:
        assert start(done, stdout=full, stderr=full).wait(60) == 0
    assert done.read_text() == "cleaned up"


@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_what_the_terminal_cannot_show_is_replaced(done: Path, charset: str) -> None:
    program = start(done, 1, stdout=subprocess.PIPE, environment={"PYTHONIOENCODING": charset})
    out, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    assert "? a line ? 1 ?" in out.decode(charset)


def test_a_shell_without_a_locale_gets_utf_8(done: Path) -> None:
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    program = start(done, 1, stdout=subprocess.PIPE, environment=bare)
    out, _ = program.communicate(timeout=60)
    assert "… a line ≥ 1 ✔" in out.decode()


@pytest.mark.parametrize("command", ["./demo --help", "./test --help", "./demo --port 0"])
def test_the_users_settings_of_python_do_not_disturb_the_commands(command: str) -> None:
    settings = ("PYTHONIOENCODING=ascii", "PYTHONSAFEPATH=1", "PYTHONHOME=/nowhere", "PYTHONPATH=/nowhere", "PYTHONWARNINGS=error")
    ended = subprocess.run(["env", *settings, *command.split()], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert ended.returncode == (2 if "--port" in command else 0), ended.stderr
    assert b"Traceback" not in ended.stderr
