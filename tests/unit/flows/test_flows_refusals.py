"""All flows refuse in the same way: the run ends as Failed, with the refusal's name as the name of the state, and changes nothing."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from prefect import Flow

from blocks.parameters import Infrastructure, Service
from blocks.register import TargetData
from blocks.target import NoSuchTarget
from flows import checks, hooks, stages
from tasks.support import site

CHECKED = ("lifecycle", "provision", "verify", "deploy", "drill", "refresh", "surge", "cleanup")
"""Flows that check their parameters before their first task."""


def flow(name: str) -> Flow[Any, Any]:
    found = getattr(importlib.import_module(f"flows.{name}"), name)
    assert isinstance(found, Flow)
    return found


@pytest.mark.parametrize("name", CHECKED)
def test_a_run_with_an_unknown_target_ends_as_no_such_target(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def load_target(target: str) -> None:
        raise NoSuchTarget(f"no leeward-target block is named {target!r}")

    monkeypatch.setattr(site, "load_target", load_target)
    state = flow(name).fn("nowhere")
    assert (state.is_failed(), state.name, state.message) == (True, "NoSuchTarget", "no leeward-target block is named 'nowhere'")


@pytest.mark.parametrize("name", ["lifecycle", "provision", "verify", "deploy", "drill", "refresh", "surge"])
def test_a_run_with_more_workers_than_nodes_ends_as_bad_parameters(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    target = TargetData(access_key_id="a", secret_access_key="b").target()  # type: ignore[arg-type]  # validated
    monkeypatch.setattr(site, "load_target", lambda name: target)
    state = flow(name).fn("t", Infrastructure(), Service(workers=3))
    assert (state.is_failed(), state.name) == (True, "BadParameters")
    assert "3 workers need 3 inf2 nodes" in (state.message or "")


def test_provision_checks_the_model_of_the_service_that_will_be_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: Any, service: Service, *, provisioning: bool) -> None:
        raise checks.PrerequisitesMissing(f"{service.model}, {provisioning}")

    target = TargetData(access_key_id="a", secret_access_key="b").target()  # type: ignore[arg-type]  # validated
    monkeypatch.setattr(site, "load_target", lambda name: target)
    monkeypatch.setattr(stages, "check", check)
    state = flow("provision").fn("t", Infrastructure(), Service(model="acme/own"))
    assert (state.name, state.message) == ("PrerequisitesMissing", "acme/own, True")


@pytest.mark.parametrize("name", [*CHECKED, "status", "sweep"])
@pytest.mark.parametrize("refusal", checks.REFUSALS)
def test_every_flow_turns_every_refusal_into_a_state(monkeypatch: pytest.MonkeyPatch, name: str, refusal: type[Exception]) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise refusal("the reason")

    module = importlib.import_module(f"flows.{name}")
    for checked in ("checked_site", "checked_drill", "show_status"):
        monkeypatch.setattr(module, checked, refuse, raising=False)
    monkeypatch.setattr(stages, "sweep", refuse)
    state = flow(name).fn("t")
    assert (state.is_failed(), state.name, state.message) == (True, refusal.__name__, "the reason")
    assert state.name in hooks.ENDED_NORMALLY


def test_errors_that_are_no_refusals_are_raised() -> None:
    @checks.refusable
    def fail() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        fail()
