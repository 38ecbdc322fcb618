"""An approval holds for one plan; what would be lost needs a second yes; a paused run takes both in Prefect's UI."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.flow_runs import resume_flow_run

from blocks.parameters import Infrastructure
from flows import approval
from flows.approval import Given, objection, require_approval
from flows.checks import NotApproved
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


@flow
def provisioning(given: Given) -> str:
    """Stands in for a flow that has just planned."""
    require_approval(site(), LOST, given)
    return "applied"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"plan": "bbbbbbbbbbbb", "may_replace": True}, ""),
        ({"plan": "bbbbbbbbbbbb"}, "needs a second yes"),
        ({"plan": "aaaaaaaaaaaa", "may_replace": True}, "has changed since it was shown"),
    ],
)
def test_a_paused_run_is_approved_by_the_form_of_its_resumption(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(approval, "LOOK_EVERY_S", 1)
    name = f"paused-{time.monotonic_ns()}"

    def resume() -> None:
        with get_client(sync_client=True) as client:
            while not (found := client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"name": {"any_": [name]}}))) or not (
                found[0].state and found[0].state.is_paused()
            ):
                time.sleep(0.2)
            resume_flow_run(found[0].id, run_input=answer)

    thread = threading.Thread(target=resume, daemon=True)
    thread.start()
    run = provisioning.with_options(flow_run_name=name)
    if reason:
        with pytest.raises(NotApproved, match=reason):
            run(Given(wait_min=5))
    else:
        assert run(Given(wait_min=5)) == "applied"


def test_a_paused_run_that_nobody_answers_ends_with_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval, "LOOK_EVERY_S", 1)
    monkeypatch.setattr(approval, "MINUTE_S", 0.05)
    state = provisioning(Given(wait_min=20), return_state=True)
    assert "nobody answered in 20 minutes" in (state.message or "")
