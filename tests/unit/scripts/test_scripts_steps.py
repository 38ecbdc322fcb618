"""Set-up steps run in their order, in parallel where it allows that, and fail with the end of their log."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from scripts import setup, steps
from scripts.steps import Step, StepFailed
from scripts.support.console import Console
from scripts.support.processes import can_contain

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
    steps.run(wanted, tmp_path, Console(out))
    assert order.read_text().split() == ["a", "b", "c"]


def test_independent_steps_run_at_the_same_time(tmp_path: Path) -> None:
    """Each step waits for a file that the other one creates, so neither would end if they ran one after the other."""
    meet = "touch {mine}; while [ ! -e {other} ]; do sleep 0.02; done"
    left, right = tmp_path / "left", tmp_path / "right"
    wanted = [
        bash("left", meet.format(mine=left, other=right), timeout_s=20),
        bash("right", meet.format(mine=right, other=left), timeout_s=20),
    ]
    steps.run(wanted, tmp_path, Console(io.StringIO()))


def test_output_is_printed_with_the_name_of_its_step_unless_echo_is_off(tmp_path: Path) -> None:
    out = io.StringIO()
    steps.run([bash("loud", "echo hello; echo error >&2"), bash("quiet", "echo whisper", echo=False)], tmp_path, Console(out))
    shown = out.getvalue()
    assert "loud        hello" in shown
    assert "loud        error" in shown
    assert "whisper" not in shown
    assert "whisper" in (tmp_path / "setup-quiet.log").read_text()


def test_the_own_prefix_of_a_programs_lines_is_removed(tmp_path: Path) -> None:
    out = io.StringIO()
    steps.run([bash("cloud", "echo 'up      it answers'; echo 'upper case'", own_prefix="up ")], tmp_path, Console(out))
    assert "cloud       it answers" in out.getvalue()
    assert "cloud       upper case" in out.getvalue()


def test_a_failed_step_stops_the_others_and_its_error_has_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"bad failed \(exit code 3\)(?s:.*)the reason"):
        steps.run(
            [bash("slow", f"sleep 60; touch {tmp_path}/survived"), bash("bad", "echo the reason; exit 3")], tmp_path, Console(io.StringIO())
        )


def test_a_step_that_handles_sigterm_may_finish_when_another_fails(tmp_path: Path) -> None:
    up, ended = tmp_path / "up", tmp_path / "ended"
    handler = f"trap 'echo finishing; touch {ended}; exit' TERM; touch {up}; while :; do sleep 0.05; done"
    out = io.StringIO()
    with pytest.raises(StepFailed, match="bad failed"):
        steps.run([bash("good", handler), bash("bad", f"while [ ! -e {up} ]; do sleep 0.02; done; exit 3")], tmp_path, Console(out))
    assert ended.exists()
    assert "good        finishing" in out.getvalue()


def test_a_step_that_handles_sigterm_and_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STOP_TIMEOUT_S", 0.0)
    up, fifo = tmp_path / "up", tmp_path / "fifo"
    os.mkfifo(fifo)
    # A reader of the fifo gets its end once no process has it open for writing.
    stubborn = f"exec 3<>{fifo}; trap : TERM; touch {up}; while :; do sleep 0.05; done"
    with pytest.raises(StepFailed, match="bad failed"):
        steps.run(
            [bash("stubborn", stubborn), bash("bad", f"while [ ! -e {up} ]; do sleep 0.02; done; exit 3")], tmp_path, Console(io.StringIO())
        )
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as end:
        assert end.read() == b""


def test_a_step_that_exceeds_its_timeout_has_failed(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="was not done"):
        steps.run([bash("endless", "sleep 60", timeout_s=0.3)], tmp_path, Console(io.StringIO()))


def test_a_step_that_cannot_be_contained_runs_and_is_stopped_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "can_contain", lambda: False)
    steps.run([bash("quick", "true")], tmp_path, Console(io.StringIO()))
    with pytest.raises(StepFailed, match="endless was not done"):
        steps.run([bash("endless", f"echo $$ > {tmp_path}/pid; sleep 60", timeout_s=0.5)], tmp_path, Console(io.StringIO()))
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_steps_with_circular_dependencies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wait for one another"):
        steps.run([bash("hen", "true", "egg"), bash("egg", "true", "hen")], tmp_path, Console(io.StringIO()))


def test_a_set_up_step_waits_only_for_the_steps_that_it_needs() -> None:
    plan = {step.name: step for step in setup.plan(setup.TEST_GROUPS, cloud=True)}
    assert {name: set(step.after) for name, step in plan.items()} == {
        "python": set(), "terraform": set(), "build": set(), "image": {"python", "build"},
    }  # fmt: skip
    assert [step.name for step in setup.plan(setup.TEST_GROUPS, cloud=False)] == ["python"]
