"""Set-up steps run in their order, side by side where they may, and fail with the end of their log."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from scripts import setup, steps
from scripts.steps import Step, StepFailed
from scripts.support.processes import can_contain
from scripts.support.say import Say, duration

pytestmark = pytest.mark.skipif(not can_contain(), reason="steps run in namespaces of their own, which this machine does not allow")


def bash(name: str, script: str, *after: str, **more: object) -> Step:
    return Step(name, ["bash", "-c", script], after=after, **more)  # type: ignore[arg-type]


def test_a_step_waits_for_those_it_comes_after(tmp_path: Path) -> None:
    out = io.StringIO()
    order = tmp_path / "order"
    wanted = [
        bash("third", f"echo c >> {order}", "first", "second"),
        bash("second", f"echo b >> {order}", "first"),
        bash("first", f"sleep 0.3; echo a >> {order}"),
    ]
    steps.run(wanted, tmp_path, Say(out))
    assert order.read_text().split() == ["a", "b", "c"]


def test_steps_that_need_nothing_of_each_other_run_at_the_same_time(tmp_path: Path) -> None:
    """Each waits for a file that the other makes: one after the other, neither would end."""
    meet = "touch {mine}; while [ ! -e {other} ]; do sleep 0.02; done"
    left, right = tmp_path / "left", tmp_path / "right"
    wanted = [
        bash("left", meet.format(mine=left, other=right), within_s=20),
        bash("right", meet.format(mine=right, other=left), within_s=20),
    ]
    steps.run(wanted, tmp_path, Say(io.StringIO()))


def test_output_is_shown_with_the_name_of_its_step_unless_it_is_not_to_be_echoed(tmp_path: Path) -> None:
    out = io.StringIO()
    steps.run([bash("loud", "echo hello; echo error >&2"), bash("quiet", "echo whisper", echo=False)], tmp_path, Say(out))
    shown = out.getvalue()
    assert "loud        hello" in shown
    assert "loud        error" in shown
    assert "whisper" not in shown
    assert "whisper" in (tmp_path / "setup-quiet.log").read_text()


def test_a_step_that_says_its_own_name_is_not_named_twice(tmp_path: Path) -> None:
    out = io.StringIO()
    steps.run([bash("cloud", "echo 'up      it answers'; echo 'upper case'", says_its_name="up ")], tmp_path, Say(out))
    assert "cloud       it answers" in out.getvalue()
    assert "cloud       upper case" in out.getvalue()


def test_a_failure_stops_the_others_and_shows_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"bad failed \(exit code 3\)(?s:.*)the reason"):
        steps.run(
            [bash("slow", f"sleep 60; touch {tmp_path}/survived"), bash("bad", "echo the reason; exit 3")], tmp_path, Say(io.StringIO())
        )


def test_a_step_that_listens_ends_in_order_when_another_fails(tmp_path: Path) -> None:
    up, ended = tmp_path / "up", tmp_path / "ended"
    listens = f"trap 'echo finishing; touch {ended}; exit' TERM; touch {up}; while :; do sleep 0.05; done"
    out = io.StringIO()
    with pytest.raises(StepFailed, match="bad failed"):
        steps.run([bash("good", listens), bash("bad", f"while [ ! -e {up} ]; do sleep 0.02; done; exit 3")], tmp_path, Say(out))
    assert ended.exists()
    assert "good        finishing" in out.getvalue()


def test_a_step_that_listens_and_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "END_S", 0.0)
    up, fifo = tmp_path / "up", tmp_path / "fifo"
    os.mkfifo(fifo)
    # Whoever reads the fifo sees its end once nobody holds it any more.
    stubborn = f"exec 3<>{fifo}; trap : TERM; touch {up}; while :; do sleep 0.05; done"
    with pytest.raises(StepFailed, match="bad failed"):
        steps.run(
            [bash("stubborn", stubborn), bash("bad", f"while [ ! -e {up} ]; do sleep 0.02; done; exit 3")], tmp_path, Say(io.StringIO())
        )
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as end:
        assert end.read() == b""


def test_a_step_that_takes_too_long_has_failed(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="was not done"):
        steps.run([bash("endless", "sleep 60", within_s=0.3)], tmp_path, Say(io.StringIO()))


def test_a_step_that_cannot_be_contained_runs_and_is_stopped_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "can_contain", lambda: False)
    steps.run([bash("quick", "true")], tmp_path, Say(io.StringIO()))
    with pytest.raises(StepFailed, match="endless was not done"):
        steps.run([bash("endless", f"echo $$ > {tmp_path}/pid; sleep 60", within_s=0.5)], tmp_path, Say(io.StringIO()))
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_steps_that_wait_for_one_another_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wait for one another"):
        steps.run([bash("hen", "true", "egg"), bash("egg", "true", "hen")], tmp_path, Say(io.StringIO()))


def test_the_set_up_waits_only_where_it_must() -> None:
    plan = {step.name: step for step in setup.plan(setup.TEST_GROUPS, cloud=True)}
    assert {name: set(step.after) for name, step in plan.items()} == {
        "python": set(), "terraform": set(), "build": set(), "image": {"python", "build"},
    }  # fmt: skip
    assert [step.name for step in setup.plan(setup.TEST_GROUPS, cloud=False)] == ["python"]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s")])
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
