"""A wait has a deadline, and reports its observations and the last one in its error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blocks.errors import Permanent, TimedOut, Transient
from drills.runner import waiting
from drills.runner.waiting import Pending, Until


class Time:
    """A clock that advances only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(waiting, "time", made)
    return made


def until(answers: list[object], within: float = 10, **options: Callable[[Pending], None]) -> Until[str]:
    script = iter(answers)

    def probe() -> str | Pending:
        found = next(script)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, str | Pending)
        return found

    return Until("the tide", probe, within, 1, **options)


def test_the_result_of_the_probe_is_returned_at_once(time: Time) -> None:
    wait = until(["high"])
    assert wait.wait() == "high"
    assert time.now == 0


def test_the_probe_is_repeated_until_it_returns_a_result(time: Time) -> None:
    wait = until([Pending("low"), Pending("rising"), "high"])
    assert wait.wait() == "high"
    assert time.now == 2


def test_the_timeout_reports_what_was_waited_for_how_long_and_the_last_observation() -> None:
    wait = until([Pending(f"low {n}") for n in range(20)], within=3)
    with pytest.raises(TimedOut, match=r"waited 3 s for the tide; last seen: low 3"):
        wait.wait()


def test_a_transient_error_of_the_probe_counts_as_pending() -> None:
    wait = until([Transient("no answer"), "high"])
    assert wait.wait() == "high"
    wait = until([Transient("no answer")] * 9, within=2)
    with pytest.raises(TimedOut, match="no answer"):
        wait.wait()


def test_a_permanent_error_ends_the_wait(time: Time) -> None:
    wait = until([Pending("low"), Permanent("the moon is gone"), "high"])
    with pytest.raises(Permanent, match="moon"):
        wait.wait()
    assert time.now == 1


def test_every_pending_observation_is_reported() -> None:
    seen: list[str] = []
    wait = until([Pending("low", 10), Transient("fog"), "high"], on_pending=lambda look: seen.append(look.seen))
    wait.wait()
    assert seen == ["low", "fog"]


def test_a_timed_out_wait_is_not_tried_again() -> None:
    assert issubclass(TimedOut, Permanent)
