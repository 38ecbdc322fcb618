"""A process and its descendants, with real processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.processes import Processes

BUSY = "while True: pass"
# A shell whose child is left by its own parent, as daemons are, and which computes itself.
ORPHAN = 'sh -c \'"$1" -c "$2" orphan & echo $! >"$3"\' sh "$1" "$2" "$3"; exec "$1" -c "$2" first'


def until(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds, at most a minute."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "still not so after a minute"
        time.sleep(0.02)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[Processes, int]]:
    """Two processes that compute, and the pid of the one that lost its parent."""
    output = tmp_path / "pid"
    with (tmp_path / "log").open("wb") as log:
        processes = Processes(["sh", "-c", ORPHAN, "sh", sys.executable, BUSY, str(output)], {}, log)
    try:
        until(lambda: output.exists() and output.read_text().endswith("\n"))
        orphan = int(output.read_text())
        until(lambda: parent(orphan) == processes.first.pid)
        yield processes, orphan
    finally:
        processes.end()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def test_a_process_that_lost_its_parent_is_still_a_descendant(processes: tuple[Processes, int]) -> None:
    one, orphan = processes
    assert orphan in one.pids()
    assert one.pids()[0] == one.first.pid


def test_paused_processes_use_no_processor_time_until_they_are_resumed(processes: tuple[Processes, int]) -> None:
    one, orphan = processes
    until(lambda: sum(one.cpu_s().values()) > 0.1)
    one.pause()
    until(lambda: {state(one.first.pid), state(orphan)} == {"T"})
    paused = one.cpu_s()
    time.sleep(0.3)
    assert one.cpu_s() == paused
    one.resume()
    until(lambda: sum(one.cpu_s().values()) > sum(paused.values()) + 0.1)


def test_after_the_end_no_process_is_left_even_if_they_were_paused(processes: tuple[Processes, int]) -> None:
    one, orphan = processes
    one.pause()
    one.end()
    assert one.first.returncode is not None
    # The process that inherits the dead one reaps it, at once or a little later.
    until(lambda: state(orphan) in ("gone", "Z"))


def test_a_process_is_named_by_the_module_that_it_runs(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    with (tmp_path / "log").open("wb") as log:
        one = Processes([sys.executable, "-m", "busy"], {"PYTHONPATH": str(tmp_path)}, log)
    try:
        until(lambda: one.cpu_s().get("busy", 0) > 0.05)
    finally:
        one.end()
