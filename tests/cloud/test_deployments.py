"""The deployments of prefect.yaml on the Prefect server."""

from __future__ import annotations

from typing import Any

import pytest
from system_under_test import System

from scripts import stack

FLOWS = ("lifecycle", "provision", "verify", "deploy", "drill", "refresh", "surge", "status", "cleanup", "reap", "sweep")


def deployments(system: System) -> dict[str, dict[str, Any]]:
    api = system.services.api
    flows = {flow["id"]: flow["name"] for flow in api.post("/flows/filter", {})}
    return {f"{flows[one['flow_id']]}/{one['name']}": one for one in api.post("/deployments/filter", {})}


def test_every_flow_has_one_deployment_and_the_drill_a_weekly_one_too(cloud: System) -> None:
    assert set(deployments(cloud)) == {*(f"{flow}/main" for flow in FLOWS), "drill/weekly-head-pod"}


def test_the_schedule_of_the_weekly_drill_is_inactive(cloud: System) -> None:
    (schedule,) = deployments(cloud)["drill/weekly-head-pod"]["schedules"]
    assert schedule["active"] is False
    assert schedule["schedule"]["cron"]


def test_an_active_schedule_has_runs_ahead(cloud: System) -> None:
    identity = deployments(cloud)["reap/main"]["id"]
    wanted = {"deployments": {"id": {"any_": [identity]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    cloud.until("runs of reap are planned", lambda: bool(cloud.services.api.post("/flow_runs/filter", wanted)))


def test_deploying_all_flows_again_changes_no_deployment(cloud: System) -> None:
    before = deployments(cloud)
    stack.deploy(cloud.services, cloud.console)
    after = deployments(cloud)
    assert {name: one["id"] for name, one in after.items()} == {name: one["id"] for name, one in before.items()}
    assert {name: len(one["schedules"]) for name, one in after.items()} == {name: len(one["schedules"]) for name, one in before.items()}


@pytest.mark.parametrize("flow", FLOWS)
def test_the_form_of_a_deployment_describes_every_parameter(cloud: System, flow: str) -> None:
    schema = deployments(cloud)[f"{flow}/main"]["parameter_openapi_schema"]
    unexplained = [
        name for name, field in schema["properties"].items() if not (field.get("description") or field.get("$ref") or field.get("allOf"))
    ]
    assert not unexplained


def test_the_lifecycle_requires_no_parameter_but_its_target(cloud: System) -> None:
    assert deployments(cloud)["lifecycle/main"]["parameter_openapi_schema"].get("required", []) in ([], ["target"])
