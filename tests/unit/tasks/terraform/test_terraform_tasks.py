"""Terraform's tasks: only approved changes are applied, and the later stages get the outputs."""

from __future__ import annotations

import pytest

from tasks.terraform import commands, infrastructure
from tasks.terraform.commands import Workspace
from tasks.terraform.errors import PlanExceeded
from tasks.terraform.events import Change, PlanSummary
from tasks.terraform.infrastructure import NotProvisioned, Outputs, Provisioning, RedisEndpoint

pytest_plugins = ["terraform_runs"]

_VALUES = {
    "region": "us-west-2",
    "cluster_name": "mistral",
    "serving_repository_url": "10.213.0.3:5000/leeward-mistral/serving",
    "control_plane_cidrs": ["10.20.8.0/24", "10.20.9.0/24"],
    "node_groups": {"core": "core", "inf2": "inf2"},
    "ready": {},
}


def test_outputs_hold_what_the_later_stages_need() -> None:
    outputs = Outputs.from_terraform({**_VALUES, "redis": {"address": "10.213.0.20", "port": 6379}})
    assert outputs.redis == RedisEndpoint("10.213.0.20", 6379)
    assert outputs.serving_repository_url == "10.213.0.3:5000/leeward-mistral/serving"


def test_without_a_redis_terraform_leaves_its_output_out() -> None:
    assert Outputs.from_terraform(_VALUES).redis is None


def test_karpenters_settings_are_complete_or_missing() -> None:
    made = {
        "queue_name": "q",
        "instance_profile": "p",
        "subnet_ids": {"core": ["subnet-1", "subnet-2"], "inf2": ["subnet-1"]},
        "security_group_id": "sg-1",
        "tags": {"a": "b"},
    }
    told = Outputs.from_terraform({**_VALUES, "karpenter": made}).karpenter
    assert told == Provisioning("q", "p", {"core": ("subnet-1", "subnet-2"), "inf2": ("subnet-1",)}, "sg-1", {"a": "b"})
    assert Outputs.from_terraform(_VALUES).karpenter is None


def test_a_state_without_outputs_counts_as_not_provisioned() -> None:
    with pytest.raises(NotProvisioned, match="run provision"):
        Outputs.from_terraform({})


def test_the_rest_of_an_approved_plan_may_be_applied(workspace: Workspace) -> None:
    approved = commands.plan(workspace, {})
    workspace.plan_file.unlink()
    infrastructure._plan_the_rest(workspace, {}, approved)
    commands.apply(workspace)
    assert commands.output(workspace) == {"word": "first"}


def test_changes_beyond_the_approved_plan_are_refused(workspace: Workspace) -> None:
    approved = PlanSummary((Change("terraform_data.quick", "create"),))
    with pytest.raises(PlanExceeded, match=r"would touch terraform_data\.slow as well"):
        infrastructure._plan_the_rest(workspace, {}, approved)
    assert not workspace.plan_file.exists()


def test_the_digest_is_that_of_the_values_and_survives_a_second_plan(workspace: Workspace) -> None:
    first, same = commands.plan(workspace, {}), commands.plan(workspace, {})
    assert first.digest == same.digest
    assert len(first.digest) == 12
    assert commands.plan(workspace, {"word": "other"}).digest != first.digest, "the same resources with other values"
    assert commands.plan(workspace, {"secret": "other"}).digest != first.digest, "secret values count"
    assert not (workspace.home / "show.log").exists()
    commands.plan(workspace, {})
    commands.apply(workspace)
    assert commands.plan(workspace, {}) == PlanSummary(())


def test_what_was_only_to_be_changed_may_not_be_destroyed_in_the_rest_of_the_plan() -> None:
    approved = PlanSummary((Change("aws_vpc.this", "update"), Change("aws_subnet.a", "create")))
    assert PlanSummary((Change("aws_vpc.this", "replace"), Change("aws_subnet.a", "replace"))).beyond(approved) == ("aws_vpc.this",)


def test_the_plans_table_names_every_change() -> None:
    table = infrastructure._plan_table(PlanSummary((Change("aws_vpc.this", "create"), Change("aws_eks_cluster.this", "update"))))
    assert table.startswith("## Terraform plan: 1 to add, 1 to change, 0 to destroy\n")
    assert "| create | `aws_vpc.this` |\n| update | `aws_eks_cluster.this` |\n" in table
    assert "already as configured" in infrastructure._plan_table(PlanSummary(()))
