"""A process and all that it started, with real processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.family import Family

BUSY = "while True: pass"
# A shell whose child is left by its own parent, as daemons are, and which computes itself.
ORPHAN = 'sh -c \'"$1" -c "$2" orphan & echo $! >"$3"\' sh "$1" "$2" "$3"; exec "$1" -c "$2" first'


def until(holds: Callable[[], bool]) -> None:
    """Returns when it does; it has a minute."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "still not so after a minute"
        time.sleep(0.02)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[Family, int]]:
    """One with two members that compute, and the pid of the one whose parent is gone."""
    told = tmp_path / "pid"
    with (tmp_path / "log").open("wb") as log:
        family = Family(["sh", "-c", ORPHAN, "sh", sys.executable, BUSY, str(told)], {}, log)
    try:
        until(lambda: told.exists() and told.read_text().endswith("\n"))
        orphan = int(told.read_text())
        until(lambda: parent(orphan) == family.first.pid)
        yield family, orphan
    finally:
        family.end()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def test_a_member_whose_parent_ended_is_still_in_the_family(family: tuple[Family, int]) -> None:
    one, orphan = family
    assert orphan in one.pids()
    assert one.pids()[0] == one.first.pid


def test_those_held_still_take_no_processor_time_until_they_go_on(family: tuple[Family, int]) -> None:
    one, orphan = family
    until(lambda: sum(one.cpu_s().values()) > 0.1)
    one.hold()
    until(lambda: {state(one.first.pid), state(orphan)} == {"T"})
    held = one.cpu_s()
    time.sleep(0.3)
    assert one.cpu_s() == held
    one.go_on()
    until(lambda: sum(one.cpu_s().values()) > sum(held.values()) + 0.1)


def test_when_it_is_ended_nobody_is_left_even_of_those_held_still(family: tuple[Family, int]) -> None:
    one, orphan = family
    one.hold()
    one.end()
    assert one.first.returncode is not None
    # Whoever adopts the dead buries them, at once or a little later.
    until(lambda: state(orphan) in ("gone", "Z"))


def test_a_member_is_named_by_the_module_that_it_runs(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    with (tmp_path / "log").open("wb") as log:
        one = Family([sys.executable, "-m", "busy"], {"PYTHONPATH": str(tmp_path)}, log)
    try:
        until(lambda: one.cpu_s().get("busy", 0) > 0.05)
    finally:
        one.end()


def test_it_sees_the_environment_that_it_was_given_and_ours(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        one = Family(["sh", "-c", 'printf "%s\\n" "$LEEWARD_TOLD $PATH"'], {"LEEWARD_TOLD": "yes"}, log, spoken_to=True)
    try:
        assert one.first.stdout
        assert one.first.stdout.readline().decode() == f"yes {os.environ['PATH']}\n"
    finally:
        one.end()
