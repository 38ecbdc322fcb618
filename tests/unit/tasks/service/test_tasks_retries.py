"""Only transient errors are tried again, a limited number of times, at growing and limited intervals."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from blocks.errors import Permanent, TimedOut, Transient, worth_retrying
from drills.kubernetes.api import Unavailable
from drills.stages import judging
from drills.stages import steps as drill_steps
from drills.stages.run import Stage
from tasks.drill import steps
from tasks.support.step import step


class Ended:
    """A task's state with a given error, or none."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error

    def result(self) -> str:
        if self._error:
            raise self._error
        return "fine"


@pytest.mark.parametrize("error", [Transient("x"), Unavailable("x")])
def test_a_transient_error_is_tried_again(error: Exception) -> None:
    assert worth_retrying(None, None, Ended(error))


@pytest.mark.parametrize("error", [Permanent("x"), TimedOut("x"), ValueError("x"), KeyboardInterrupt(), None])
def test_no_other_error_is_tried_again(error: BaseException | None) -> None:
    assert not worth_retrying(None, None, Ended(error))


def test_the_retry_condition_is_a_plain_function_because_prefect_ignores_any_other_callable() -> None:
    assert inspect.isfunction(worth_retrying)


def _tasks() -> dict[str, Any]:
    from prefect import Task

    from flows import drill_stages, refresh, stages
    from tasks.terraform import infrastructure

    used = {name: value for module in (stages, drill_stages, refresh) for name, value in vars(module).items()}
    tasks = {name: value for name, value in used.items() if isinstance(value, Task)}
    return {name: task for name, task in tasks.items() if task.fn.__module__ != infrastructure.__name__}


SUBMITTED = {"build_images", "install_kuberay", "deploy_chat"}
"""Submitted tasks, which have no deadline because it could not interrupt a thread. Their waits have deadlines of their own."""


def test_every_task_of_a_stage_has_a_name_a_deadline_retries_of_transient_errors_and_no_cache() -> None:
    from prefect.cache_policies import NO_CACHE

    found = _tasks()
    assert len(found) > 15
    for name, one in found.items():
        assert "_" not in one.name, f"{name} has no name for people"
        assert one.timeout_seconds or name in SUBMITTED, name
        assert one.retry_condition_fn is worth_retrying, name
        assert one.cache_policy == NO_CACHE, name
        assert len(one.retry_delay_seconds) >= min(one.retries, 1), name


def test_every_stage_of_a_drill_has_a_name_and_a_deadline_that_its_task_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [value for module in (drill_steps, judging) for value in vars(module).values() if isinstance(value, Stage)]
    assert len(stages) > 7
    made: list[tuple[str, float | None, int]] = []

    class Called:
        def __init__(self, function: Any) -> None:
            self._function = function

        def with_options(self, *, task_run_name: str) -> Any:
            return self._function

    def recorded(name: str, deadline_s: float | None, retries: int = 3) -> Any:
        made.append((name, deadline_s, retries))
        return Called

    monkeypatch.setattr(steps, "step", recorded)
    for stage in stages:
        assert "_" not in stage.name
        assert steps.as_task(stage, stage.name, lambda: "done") == "done"
    assert made == [(stage.name, stage.deadline_s, stage.retries) for stage in stages]


def test_a_step_with_zero_retries_is_not_tried_again() -> None:
    assert step("once", deadline_s=1, retries=0)(lambda: None).retries == 0
