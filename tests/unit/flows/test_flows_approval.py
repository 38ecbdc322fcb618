"""An approval holds for one plan; what would be lost needs a second yes; a paused run takes both in Prefect's UI."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.exceptions import FlowPauseTimeout

from blocks.parameters import Infrastructure
from flows.checks import NotApproved
from flows.runs import approval
from flows.runs.approval import Approval, Given, objection, require_approval
from tasks.terraform.events import Change, PlanSummary

NEW = PlanSummary((Change("aws_vpc.this", "create"), Change("aws_eks_cluster.this", "create")), "aaaaaaaaaaaa")
LOST = PlanSummary((Change("aws_eks_cluster.this", "replace"), Change("aws_iam_role.node", "update")), "bbbbbbbbbbbb")


def site(*, auto_approve: bool = False) -> Any:
    return SimpleNamespace(block=SimpleNamespace(auto_approve=auto_approve), infrastructure=Infrastructure())


def test_only_the_digest_of_this_plan_approves_it() -> None:
    assert "nobody has approved it" in objection(NEW, "", may_replace=False)
    assert "has changed since it was shown" in objection(NEW, "bbbbbbbbbbbb", may_replace=True)
    assert objection(NEW, "aaaaaaaaaaaa", may_replace=False) == ""


@pytest.mark.parametrize(
    "change",
    [
        Change("aws_eks_cluster.this", "replace"),
        Change('aws_subnet.private["us-west-2a"]', "delete"),
        Change("aws_elasticache_replication_group.gcs[0]", "delete"),
    ],
)
def test_losing_cluster_network_or_redis_needs_a_second_yes(change: Change) -> None:
    plan = PlanSummary((change,), "cccccccccccc")
    assert f"replaces or destroys {change.address}" in objection(plan, "cccccccccccc", may_replace=False)
    assert objection(plan, "cccccccccccc", may_replace=True) == ""


def test_the_reason_names_the_digest_and_the_second_yes() -> None:
    with pytest.raises(NotApproved, match="approved=bbbbbbbbbbbb and may_replace=true"):
        require_approval(site(), LOST, Given())


def test_a_target_that_approves_plans_itself_asks_nobody() -> None:
    require_approval(site(auto_approve=True), LOST, Given(wait_min=1))
    require_approval(site(), PlanSummary(()), Given(wait_min=1))


def paused(monkeypatch: pytest.MonkeyPatch, answer: Approval | Exception) -> None:
    """Let the pause end at once with this answer. The real one is in tests/cloud/test_approval.py."""

    def pause(**_: Any) -> Approval:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(approval, "pause_flow_run", pause)
    monkeypatch.setattr(approval, "get_run_logger", lambda: logging.getLogger("test"))


def test_a_paused_run_goes_on_with_the_right_answer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    paused(monkeypatch, Approval(plan=" bbbbbbbbbbbb ", may_replace=True))
    require_approval(site(), LOST, Given(wait_min=1))
    for wrong, reason in (
        (Approval(plan="bbbbbbbbbbbb"), "needs a second yes"),
        (Approval(plan="aaaaaaaaaaaa", may_replace=True), "has changed since it was shown"),
        (FlowPauseTimeout(), "nobody answered in 1 minutes"),
    ):
        paused(monkeypatch, wrong)
        with pytest.raises(NotApproved, match=reason):
            require_approval(site(), LOST, Given(wait_min=1))
