"""The infrastructure that Terraform created on the embedded cloud is complete, and a second plan finds nothing to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from system_under_test import Run, System

from blocks.parameters import Infrastructure
from tasks.aws.leftovers import leftovers


def found(aws: Any) -> set[str]:
    """Return service and kind of every resource of the default name."""
    return {f"{each.service} {each.kind}" for each in leftovers(SimpleNamespace(client=aws), Infrastructure().name)}


def test_the_resources_of_the_running_infrastructure_are_found_by_name_and_tag(protected: Run, aws: Any) -> None:
    assert {"ec2 vpc", "ec2 instance", "eks cluster", "elasticache replication-group", "ecr repository", "iam role"} <= found(aws)


def test_a_second_plan_after_the_lifecycle_is_empty(cleaned: Run, system: System) -> None:
    (plan,) = [each["data"] for each in system.services.api.artifacts(cleaned.identity) if each["key"].startswith("terraform-plan")]
    assert "0 to add, 0 to change, 0 to destroy" in plan


@pytest.mark.parametrize("run", ["cleaned", "unprotected"])
def test_no_resource_of_the_name_is_left_after_a_clean_up(run: str, request: pytest.FixtureRequest, aws: Any) -> None:
    request.getfixturevalue(run)
    assert found(aws) == set()
