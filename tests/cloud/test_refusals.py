"""Parameters that cannot work are refused before anything is created."""

from __future__ import annotations

from typing import Any

import pytest
from system_under_test import System

from scripts import stack
from scripts.services.prefect_api import ApiError
from scripts.steps import StepFailed

BAD: dict[str, dict[str, Any]] = {
    "a name too long for some AWS service": {"infrastructure": {"name": "a" * 28}},
    "a name that AWS does not take": {"infrastructure": {"name": "Leeward_1"}},
    "a misspelt parameter": {"infrastructure": {"core_node": {}}},
    "no node at all": {"infrastructure": {"core_nodes": {"count": 0}}},
    "an instance type without Neuron": {"infrastructure": {"inf2_nodes": {"instance_type": "m6i.large"}}},
    "a service name that Kubernetes does not take": {"service": {"name": "Mistral!"}},
}


def runs(cloud: System) -> int:
    """Return the number of runs of the lifecycle; the server itself plans runs of what has a schedule."""
    return int(cloud.services.api.post("/flow_runs/count", {"flows": {"name": {"any_": ["lifecycle"]}}}))


@pytest.mark.parametrize("wrong", BAD)
def test_wrong_parameters_are_refused_before_a_run_exists(cloud: System, wrong: str) -> None:
    before = runs(cloud)
    with pytest.raises(ApiError) as refused:
        cloud.start("lifecycle/main", **BAD[wrong])
    assert runs(cloud) == before
    (key,) = BAD[wrong]
    assert key in str(refused.value), "the refusal names the parameter"


def test_prefects_command_refuses_an_unknown_parameter_before_a_run_exists(cloud: System) -> None:
    before = runs(cloud)
    with pytest.raises(StepFailed) as refused:
        stack.prefect(cloud.services, "deployment", "run", "lifecycle/main", "-p", "target=embedded", "-p", "colour=blue")
    assert "not found on the deployment: 'colour'" in " ".join(str(refused.value).split())  # the terminal's lines are short
    assert runs(cloud) == before


def test_a_run_with_an_unknown_target_fails_before_anything_is_created(cloud: System) -> None:
    run = cloud.run("provision/main", target="nowhere")
    cloud.runs.remove(run)
    assert run.state == "FAILED"
    assert "nowhere" in run.snapshot.message + run.log
    assert not run.stage("provision")
    assert cloud.ask("leftovers") == {}


def test_a_run_with_an_unknown_drill_fails_before_anything_is_created(cloud: System) -> None:
    run = cloud.run("lifecycle/main", drill="no-such-drill")
    cloud.runs.remove(run)
    assert run.state == "FAILED"
    assert "head-pod" in run.snapshot.message + run.log, "the known ones are listed"
    assert cloud.ask("leftovers") == {}
