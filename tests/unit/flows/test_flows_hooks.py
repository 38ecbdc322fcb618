"""A run that ends badly starts one sweep of what it left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import hooks
from flows.lifecycle import lifecycle

RUN = SimpleNamespace(id="1234", run_count=2, name="calm-otter", parameters={"target": "t", "service": {"name": "m"}, "keep": True})


def state(name: str) -> Any:
    return SimpleNamespace(name=name)


def test_the_idempotency_key_contains_the_run_and_its_try() -> None:
    assert hooks.idempotency_key(RUN) == "sweep-1234-2"
    assert hooks.idempotency_key(SimpleNamespace(**{**vars(RUN), "run_count": 3})) != hooks.idempotency_key(RUN)


def test_the_parameters_for_the_sweep_exist_in_its_flow() -> None:
    from flows.sweep import sweep

    assert set(hooks.PASSED_PARAMETERS) | {"owner"} < set(sweep.parameters.properties)


@pytest.mark.parametrize("name", ["Failed", "Crashed", "Cancelled"])
def test_a_bad_end_starts_a_sweep_without_waiting_for_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hooks, "run_deployment", lambda deployment, **options: asked.append({"name": deployment, **options}))
    hooks.ask_for_sweep(lifecycle, RUN, state(name))
    (one,) = asked
    assert (one["name"], one["timeout"], one["as_subflow"]) == ("sweep/main", 0, False)
    assert one["idempotency_key"] == "sweep-1234-2"
    assert one["parameters"] == {"target": "t", "service": {"name": "m"}, "owner": "1234"}


@pytest.mark.parametrize("name", sorted(hooks.ENDED_NORMALLY))
def test_a_normal_end_starts_no_sweep(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(hooks, "run_deployment", lambda *_, **__: pytest.fail("asked"))
    hooks.ask_for_sweep(lifecycle, RUN, state(name))


def test_a_run_with_invalid_parameters_starts_no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "run_deployment", lambda *_, **__: pytest.fail("asked"))
    wrong = {"target": "t", "infrastructure": {"vpc_cidr": "172.20.0.0/16"}}
    hooks.ask_for_sweep(lifecycle, SimpleNamespace(**{**vars(RUN), "parameters": wrong}), state("Failed"))


def test_the_hook_is_a_plain_function_because_other_callables_break_cancellation() -> None:
    import inspect

    from flows.drill import drill
    from flows.refresh import refresh
    from flows.surge import surge

    assert inspect.isfunction(hooks.ask_for_sweep)
    for flow in (lifecycle, drill, refresh, surge):
        for those in (flow.on_failure_hooks, flow.on_cancellation_hooks, flow.on_crashed_hooks):
            assert those == [hooks.ask_for_sweep]


def test_the_names_of_all_refusals_are_normal_ends() -> None:
    from flows import checks, drill_stages

    assert {one.__name__ for one in checks.REFUSALS} < hooks.ENDED_NORMALLY
    void = drill_stages.Result(verdict="void", headline="h", folder=Path("/x"))
    assert drill_stages.end_state(void).name in hooks.ENDED_NORMALLY
