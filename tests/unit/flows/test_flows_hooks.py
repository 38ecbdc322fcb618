"""A run that ends badly asks for one sweep of what is its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import hooks
from flows.lifecycle import lifecycle

RUN = SimpleNamespace(id="1234", run_count=2, name="calm-otter", parameters={"target": "t", "service": {"name": "m"}, "keep": True})


def state(name: str) -> Any:
    return SimpleNamespace(name=name)


def test_the_key_holds_the_run_and_its_try() -> None:
    assert hooks.idempotency_key(RUN) == "sweep-1234-2"
    assert hooks.idempotency_key(SimpleNamespace(**{**vars(RUN), "run_count": 3})) != hooks.idempotency_key(RUN)


def test_the_sweep_is_told_where_the_run_was_and_whose_things_to_sweep() -> None:
    assert hooks.sweep_parameters(RUN) == {"target": "t", "service": {"name": "m"}, "owner": "1234"}


def test_what_the_sweep_is_told_are_parameters_it_has() -> None:
    from flows.sweep import sweep

    assert set(hooks.PASSED_PARAMETERS) | {"owner"} < set(sweep.parameters.properties)


@pytest.mark.parametrize("name", ["Failed", "Crashed", "Cancelled"])
def test_a_bad_end_asks_and_does_not_wait(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hooks, "run_deployment", lambda deployment, **options: asked.append({"name": deployment, **options}))
    hooks.ask_for_sweep(lifecycle, RUN, state(name))
    (one,) = asked
    assert (one["name"], one["timeout"], one["as_subflow"]) == ("sweep/main", 0, False)
    assert one["idempotency_key"] == "sweep-1234-2"


@pytest.mark.parametrize("name", sorted(hooks.ENDED_NORMALLY))
def test_an_end_in_order_asks_for_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(hooks, "run_deployment", lambda *_, **__: pytest.fail("asked"))
    hooks.ask_for_sweep(lifecycle, RUN, state(name))


def test_a_run_whose_parameters_were_refused_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "run_deployment", lambda *_, **__: pytest.fail("asked"))
    wrong = {"target": "t", "infrastructure": {"vpc_cidr": "172.20.0.0/16"}}
    hooks.ask_for_sweep(lifecycle, SimpleNamespace(**{**vars(RUN), "parameters": wrong}), state("Failed"))


def test_the_hook_is_a_plain_function_as_others_break_cancellation() -> None:
    import inspect

    from flows.drill import drill
    from flows.refresh import refresh
    from flows.surge import surge

    assert inspect.isfunction(hooks.ask_for_sweep)
    for flow in (lifecycle, drill, refresh, surge):
        for those in (flow.on_failure_hooks, flow.on_cancellation_hooks, flow.on_crashed_hooks):
            assert those == [hooks.ask_for_sweep]


def test_a_run_that_was_refused_is_known_by_the_name_of_its_refusal() -> None:
    from flows import checks, drill_stages

    assert {one.__name__ for one in checks.REFUSALS} < hooks.ENDED_NORMALLY
    void = drill_stages.Result(verdict="void", headline="h", folder=drill_stages.Path("/x"))
    assert drill_stages.end_state(void).name in hooks.ENDED_NORMALLY
