"""prefect.yaml has only keys that Prefect knows, because Prefect ignores misspelt keys of a deployment without an error."""

from __future__ import annotations

import importlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy._models import ConcurrencyLimitSpec, DeploymentConfig, PrefectYamlModel, RawScheduleConfig, WorkPoolConfig
from prefect.cli.deploy._triggers import DeploymentTriggerAdapter
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from pydantic import BaseModel

from flows.hooks import ENDED_NORMALLY
from scripts.services.services import prefect_environment

FILE = Path(__file__).resolve().parents[3] / "prefect.yaml"
CONTENT: dict[str, Any] = yaml.safe_load(FILE.read_text())
DEPLOYMENTS: list[dict[str, Any]] = CONTENT["deployments"]
FLOWS = ("lifecycle", "provision", "verify", "deploy", "drill", "refresh", "surge", "status", "cleanup", "reap", "sweep")
IDS = [f"{one['entrypoint'].split(':')[1]}/{one['name']}" for one in DEPLOYMENTS]


def flow_of(deployment: dict[str, Any]) -> Flow[Any, Any]:
    path, _, name = deployment["entrypoint"].partition(":")
    found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(found, Flow)
    return found


def unknown(given: dict[str, Any], model: type[BaseModel]) -> set[str]:
    known = set(model.model_fields) | {field.alias for field in model.model_fields.values() if field.alias}
    return set(given) - known


def test_every_key_is_one_that_prefect_knows() -> None:
    assert unknown(CONTENT, PrefectYamlModel) == {"definitions"}, "anchors only"
    for one in DEPLOYMENTS:
        assert not unknown(one, DeploymentConfig)
        assert not unknown(one["work_pool"], WorkPoolConfig)
        assert not unknown(one["concurrency_limit"], ConcurrencyLimitSpec)
        for schedule in one.get("schedules", ()):
            assert not unknown(schedule, RawScheduleConfig)


def test_there_is_one_deployment_for_each_flow_and_a_weekly_drill() -> None:
    assert sorted(IDS) == sorted([*(f"{flow}/main" for flow in FLOWS), "drill/weekly-head-pod"])


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=IDS)
def test_a_deployment_has_a_description_tags_strict_parameters_and_one_run_at_a_time(deployment: dict[str, Any]) -> None:
    assert len(deployment["description"]) > 20
    assert "leeward" in deployment["tags"]
    assert deployment["enforce_parameter_schema"] is True
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert deployment["work_pool"]["name"] == "leeward"


def test_a_schedule_has_a_slug_and_an_active_key_or_a_new_deployment_would_activate_it() -> None:
    schedules = [schedule for one in DEPLOYMENTS for schedule in one.get("schedules", ())]
    assert schedules
    for schedule in schedules:
        assert schedule["slug"]
        assert schedule["active"] is (schedule["slug"] == "hourly"), "reaping alone, which removes only what was given an end"


def test_the_trigger_of_the_sweep_expects_heartbeats_and_every_end_state() -> None:
    (sweep,) = [one for one in DEPLOYMENTS if one["entrypoint"] == "flows/sweep.py:sweep"]
    (given,) = sweep["triggers"]
    trigger = DeploymentTriggerAdapter.validate_python(given)
    assert isinstance(trigger, DeploymentEventTrigger)
    assert not unknown(given, DeploymentEventTrigger)
    ends = {"Completed", "Failed", "Crashed", "Cancelled", *ENDED_NORMALLY}
    assert trigger.expect == {f"prefect.flow-run.{name}" for name in ("heartbeat", *ends)}
    assert trigger.after == {"prefect.flow-run.heartbeat"}
    assert trigger.within > 3 * timedelta(
        seconds=int(prefect_environment("http://127.0.0.1:1/api", ())["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    )
    assert set(trigger.parameters or ()) == set(flow_of(sweep).parameters.properties)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=IDS)
def test_the_parameters_of_a_deployment_exist_in_its_flow_and_only_the_target_is_required(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment)
    assert flow.name == deployment["entrypoint"].split(":")[1]
    assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)
    assert (flow.parameters.required or []) == ([] if flow.name == "reap" else ["target"]), "reaping looks at all targets"
    flow.validate_parameters({"target": "x", **deployment.get("parameters", {})})


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=IDS)
def test_every_parameter_of_a_flow_has_a_description(deployment: dict[str, Any]) -> None:
    for name, field in flow_of(deployment).parameters.properties.items():
        assert field.get("description") or "$ref" in field, name  # the model's own docstring


def test_no_secret_is_a_parameter() -> None:
    for one in DEPLOYMENTS:
        assert "SecretStr" not in str(flow_of(one).parameters.model_dump())
        assert "password" not in str(flow_of(one).parameters.model_dump()).lower()
