"""Commands, waits and locks of the machine side: their errors name what was tried, what was seen last, and what to do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from localcloud.files import last_lines
from localcloud.machine.interface import MachineError
from localcloud.machine.locks import KeyedLocks
from localcloud.machine.processes import run_command, wait_until


def test_a_command_returns_its_output() -> None:
    assert run_command(["cat"], stdin="in") == "in"


def test_the_error_of_a_failed_command_has_its_exit_code_and_output() -> None:
    with pytest.raises(MachineError, match="ended with 3: because"):
        run_command(["sh", "-c", "echo because >&2; exit 3"])


def test_a_command_that_does_not_end_in_time_is_stopped() -> None:
    with pytest.raises(MachineError, match="had not ended"):
        run_command(["sleep", "60"], within=0.1)


def test_the_error_of_a_missing_program_names_the_doctor() -> None:
    with pytest.raises(MachineError, match="doctor"):
        run_command(["no-such-program"])


def test_a_wait_ends_when_nothing_is_missing() -> None:
    answers = iter(["still no", None])
    wait_until("it is there", lambda: next(answers), within=5, every=0)


def test_the_error_of_a_wait_has_what_it_waited_for_and_what_was_seen_last() -> None:
    with pytest.raises(MachineError, match=r"it is there: not so after 0 s; last seen: 503"):
        wait_until("it is there", lambda: "503", within=0, every=0)


def test_the_last_lines_of_a_log_are_returned(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{n}\n" for n in range(9000)))
    assert last_lines(log, 2) == "8998\n8999"
    assert last_lines(tmp_path / "absent") == ""


def test_a_lock_makes_calls_wait_that_need_the_same_name_and_no_others() -> None:
    locks, inside, entered = KeyedLocks(), list[str](), threading.Event()

    def enter(name: str) -> None:
        with locks.hold(name):
            inside.append(name)
            entered.set()

    with locks.hold("a"):
        threads = [threading.Thread(target=enter, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        assert entered.wait(60)
        assert inside == ["b"]
    for thread in threads:
        thread.join()
    assert inside == ["b", "a"]
