"""Terraform's events: the plan, progress and errors that they stand for."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.terraform.errors import PlanOutdated, StateLocked, TerraformFailed, TerraformUnsettled, failure
from tasks.terraform.events import Change, PlanSummary, TerraformProgress, Tracker


def _planned(address: str, action: str) -> dict[str, Any]:
    return {"type": "planned_change", "change": {"resource": {"addr": address}, "action": action}}


def _step(kind: str, address: str, action: str = "create") -> dict[str, Any]:
    return {"type": kind, "@message": f"{address}: {kind}", "hook": {"resource": {"addr": address}, "action": action}}


def _error(summary: str, detail: str = "", address: str = "") -> dict[str, Any]:
    return {"type": "diagnostic", "diagnostic": {"severity": "error", "summary": summary, "detail": detail, "address": address}}


def test_a_replaced_resource_counts_as_created_and_destroyed() -> None:
    summary = PlanSummary.from_events([_planned("a", "create"), _planned("b", "replace"), _planned("c", "update"), _planned("d", "delete")])
    assert str(summary) == "2 to add, 1 to change, 2 to destroy"


def test_reading_a_data_source_is_no_change() -> None:
    assert PlanSummary.from_events([_planned("data.x", "read"), _planned("a", "noop"), {"type": "version"}]).empty


def test_a_plan_goes_beyond_another_one_by_the_resources_that_are_not_in_that() -> None:
    approved = PlanSummary((Change("vpc", "create"), Change("cluster", "create")))
    assert PlanSummary((Change("cluster", "replace"),)).beyond(approved) == ()
    assert PlanSummary((Change("cluster", "create"), Change("bucket", "delete"))).beyond(approved) == ("bucket",)


def test_progress_counts_operations_and_not_the_reading_of_data() -> None:
    seen: list[TerraformProgress] = []
    track = Tracker(seen.append)
    for event in (
        *(_planned("a", "create"), _planned("b", "replace")),
        *(_step("apply_start", "data.x", "read"), _step("apply_complete", "data.x", "read")),
        *(_step("apply_start", "a"), _step("apply_start", "b", "delete"), _step("apply_complete", "a")),
    ):
        track(event)
    assert (seen[-1].done, seen[-1].planned, seen[-1].current) == (1, 3, ("b",))
    assert seen[-1].percent == pytest.approx(100 / 3)
    assert str(seen[-1]).startswith("1 of 3 done after 0 s, now b")


def test_a_failed_operation_does_not_count_as_done() -> None:
    track = Tracker()
    for event in (_planned("a", "create"), _step("apply_start", "a"), _step("apply_errored", "a")):
        track(event)
    assert (track.progress().done, track.progress().current) == (0, ())


def test_of_many_simultaneous_operations_only_some_are_named() -> None:
    assert str(TerraformProgress(0, 5, ("a", "b", "c", "d", "e"), 7)) == "0 of 5 done after 7 s, now a, b, c and 2 more"


def test_progress_without_a_plan_is_zero() -> None:
    assert TerraformProgress(0, 0, (), 0).percent == 0


@pytest.mark.parametrize(
    "detail",
    [
        "operation error EC2: CreateVpc, https response error StatusCode: 503",
        "api error ThrottlingException: Rate exceeded",
        "InsufficientInstanceCapacity: no inf2.8xlarge in us-west-2b",
        "dial tcp 10.213.0.2:4566: connect: connection refused",
        "DependencyViolation: The subnet has dependencies and cannot be deleted",
    ],
)
def test_temporary_failures_are_tried_again(detail: str) -> None:
    assert isinstance(failure("apply", 1, [_error("creating", detail)], ""), TerraformUnsettled)


def test_a_lasting_failure_is_not_tried_again_and_names_the_resource() -> None:
    error = failure("apply", 1, [_error("creating EKS Cluster", "AccessDenied: not\n allowed", "aws_eks_cluster.this")], "")
    assert isinstance(error, TerraformFailed)
    assert str(error) == "terraform apply ended with 1: aws_eks_cluster.this: creating EKS Cluster (AccessDenied: not allowed)"


def test_refused_actions_are_named_first_and_whatever_else_failed_is_not_tried_again_before_they_are_given() -> None:
    refused = f"api error AccessDenied: {'x' * 500} is not authorized to perform: iam:CreateRole on resource: r"
    also = "UnauthorizedOperation: User: u is not authorized to perform: ec2:CreateVpc on resource: v"
    error = failure("apply", 1, [_error("creating", refused), _error("creating", also), _error("creating", "Rate exceeded")], "")
    assert isinstance(error, TerraformFailed)
    assert str(error).startswith(
        "terraform apply ended with 1: the role lacks iam:CreateRole, ec2:CreateVpc: give it terraform/pipeline-policy.json, which has"
    )
    assert "Rate exceeded" in str(error)


def test_a_state_that_the_role_may_not_lock_is_not_taken_for_locked() -> None:
    refused = "api error AccessDenied: User: u is not authorized to perform: s3:PutObject on resource: r"
    error = failure("plan", 1, [_error("Error acquiring the state lock", refused)], "")
    assert isinstance(error, TerraformFailed)
    assert "the role lacks s3:PutObject" in str(error)


def test_a_refusal_without_a_body_is_known_by_its_operation() -> None:
    refused = (
        "operation error S3: HeadObject, https response error\n StatusCode: 403, RequestID: , HostID: , api error Forbidden: Forbidden"
    )
    assert "the role lacks s3:GetObject" in str(failure("plan", 1, [_error("reading the state", refused)], ""))


def test_the_error_about_a_name_in_use_suggests_terraform_import() -> None:
    error = failure("apply", 1, [_error("creating IAM Role", "EntityAlreadyExists: Role with name x already exists.")], "")
    assert isinstance(error, TerraformFailed)
    assert "terraform import" in str(error)


def test_a_warning_is_not_the_reason() -> None:
    warning = {"type": "diagnostic", "diagnostic": {"severity": "warning", "summary": "Deprecated: throttling"}}
    assert isinstance(failure("plan", 1, [warning], "a crash"), TerraformFailed)


def test_without_a_diagnostic_the_error_has_the_end_of_the_output() -> None:
    assert "panic: oh" in str(failure("plan", 2, [], "panic: oh"))
    assert "it printed nothing" in str(failure("plan", 2, [], ""))


def test_a_terraform_that_was_killed_may_be_run_again() -> None:
    assert isinstance(failure("apply", -9, [], ""), TerraformUnsettled)


def test_a_stale_plan_and_a_held_lock_have_errors_of_their_own() -> None:
    assert isinstance(failure("apply", 1, [_error("Saved plan is stale")], ""), PlanOutdated)
    assert isinstance(failure("apply", 1, [_error("Error acquiring the state lock", "Lock Info: none")], ""), StateLocked)
