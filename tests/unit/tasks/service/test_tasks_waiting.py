"""A wait has a deadline, says what it saw last, and shows what it sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blocks.errors import Permanent, TimedOut, Transient
from tasks.support.waiting import Pending, Until


class Time:
    """A clock that goes on only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def until(answers: list[object], within: float = 10, **options: Callable[[Pending], None]) -> tuple[Until[str], Time]:
    time, script = Time(), iter(answers)

    def probe() -> str | Pending:
        found = next(script)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, str | Pending)
        return found

    return Until("the tide", probe, within, 1, clock=time.clock, sleep=time.sleep, **options), time


def test_what_the_probe_finds_is_returned_at_once() -> None:
    wait, time = until(["high"])
    assert wait.wait() == "high"
    assert time.now == 0


def test_it_looks_again_until_it_is_there() -> None:
    wait, time = until([Pending("low"), Pending("rising"), "high"])
    assert wait.wait() == "high"
    assert time.now == 2


def test_its_end_says_for_what_and_how_long_it_waited_and_what_it_saw_last() -> None:
    wait, _ = until([Pending(f"low {n}") for n in range(20)], within=3)
    with pytest.raises(TimedOut, match=r"waited 3 s for the tide; last seen: low 3"):
        wait.wait()


def test_a_transient_error_is_one_more_thing_seen() -> None:
    wait, _ = until([Transient("no answer"), "high"])
    assert wait.wait() == "high"
    wait, _ = until([Transient("no answer")] * 9, within=2)
    with pytest.raises(TimedOut, match="no answer"):
        wait.wait()


def test_a_permanent_error_ends_the_wait() -> None:
    wait, time = until([Pending("low"), Permanent("the moon is gone"), "high"])
    with pytest.raises(Permanent, match="moon"):
        wait.wait()
    assert time.now == 1


def test_every_look_is_shown() -> None:
    seen: list[str] = []
    wait, _ = until([Pending("low", 10), Transient("fog"), "high"], on_pending=lambda look: seen.append(look.seen))
    wait.wait()
    assert seen == ["low", "fog"]


def test_a_wait_that_is_over_is_not_tried_again() -> None:
    assert issubclass(TimedOut, Permanent)
