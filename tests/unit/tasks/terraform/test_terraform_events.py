"""What Terraform's events say of a plan and of progress."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.terraform.errors import PlanOutdated, StateLocked, TerraformFailed, TerraformUnsettled, failure
from tasks.terraform.events import Change, PlanSummary, Progress, Tracker


def _planned(address: str, action: str) -> dict[str, Any]:
    return {"type": "planned_change", "change": {"resource": {"addr": address}, "action": action}}


def _step(kind: str, address: str, action: str = "create") -> dict[str, Any]:
    return {"type": kind, "@message": f"{address}: {kind}", "hook": {"resource": {"addr": address}, "action": action}}


def _error(summary: str, detail: str = "", address: str = "") -> dict[str, Any]:
    return {"type": "diagnostic", "diagnostic": {"severity": "error", "summary": summary, "detail": detail, "address": address}}


def test_a_replaced_resource_is_made_and_destroyed() -> None:
    summary = PlanSummary.from_events([_planned("a", "create"), _planned("b", "replace"), _planned("c", "update"), _planned("d", "delete")])
    assert str(summary) == "2 to add, 1 to change, 2 to destroy"


def test_reading_data_is_no_change() -> None:
    assert PlanSummary.from_events([_planned("data.x", "read"), _planned("a", "noop"), {"type": "version"}]).empty


def test_a_plan_goes_beyond_another_by_what_that_did_not_touch() -> None:
    approved = PlanSummary((Change("vpc", "create"), Change("cluster", "create")))
    assert PlanSummary((Change("cluster", "replace"),)).beyond(approved) == ()
    assert PlanSummary((Change("cluster", "create"), Change("bucket", "delete"))).beyond(approved) == ("bucket",)


def test_progress_counts_operations_and_not_the_reading_of_data() -> None:
    seen: list[Progress] = []
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


def test_what_failed_is_not_done() -> None:
    track = Tracker()
    for event in (_planned("a", "create"), _step("apply_start", "a"), _step("apply_errored", "a")):
        track(event)
    assert (track.progress().done, track.progress().current) == (0, ())


def test_many_at_once_are_not_all_named() -> None:
    assert str(Progress(0, 5, ("a", "b", "c", "d", "e"), 7)) == "0 of 5 done after 7 s, now a, b, c and 2 more"


def test_progress_without_a_plan_is_none() -> None:
    assert Progress(0, 0, (), 0).percent == 0


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
def test_what_passes_by_itself_is_tried_again(detail: str) -> None:
    assert isinstance(failure("apply", 1, [_error("creating", detail)], ""), TerraformUnsettled)


def test_what_does_not_pass_is_not_tried_again_and_says_where_it_was() -> None:
    error = failure("apply", 1, [_error("creating EKS Cluster", "AccessDenied: not\n allowed", "aws_eks_cluster.this")], "")
    assert isinstance(error, TerraformFailed)
    assert str(error) == "terraform apply ended with 1: aws_eks_cluster.this: creating EKS Cluster (AccessDenied: not allowed)"


def test_a_name_that_is_taken_says_who_may_have_it() -> None:
    error = failure("apply", 1, [_error("creating IAM Role", "EntityAlreadyExists: Role with name x already exists.")], "")
    assert isinstance(error, TerraformFailed)
    assert "terraform import" in str(error)


def test_a_warning_is_not_the_reason() -> None:
    warning = {"type": "diagnostic", "diagnostic": {"severity": "warning", "summary": "Deprecated: throttling"}}
    assert isinstance(failure("plan", 1, [warning], "a crash"), TerraformFailed)


def test_a_terraform_that_gave_no_reason_is_told_by_its_last_words() -> None:
    assert "panic: oh" in str(failure("plan", 2, [], "panic: oh"))
    assert "it printed nothing" in str(failure("plan", 2, [], ""))


def test_a_terraform_that_was_killed_may_be_run_again() -> None:
    assert isinstance(failure("apply", -9, [], ""), TerraformUnsettled)


def test_a_stale_plan_and_a_held_lock_are_known() -> None:
    assert isinstance(failure("apply", 1, [_error("Saved plan is stale")], ""), PlanOutdated)
    assert isinstance(failure("apply", 1, [_error("Error acquiring the state lock", "Lock Info: none")], ""), StateLocked)
