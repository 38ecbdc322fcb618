"""A person's approval of one plan: by parameter, or in Prefect's UI while the run is paused."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import get_run_logger, pause_flow_run
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.utilities.timeout import timeout

from flows.checks import NotApproved
from tasks.cluster.in_use import PROTECTED, taken_away
from tasks.support.site import Site
from tasks.terraform.events import PlanSummary

LOOK_EVERY_S = 5
MINUTE_S = 60.0
BEYOND_S = 300
"""Seconds for which the server still counts the run as paused after the run itself has given up, so that it ends with its own reason."""


class Approval(RunInput):
    """The answer that Prefect's UI asks for when a paused run is resumed."""

    plan: str
    """Digest of the plan, as the run shows it."""
    may_replace: bool = False
    """Whether cluster, network and Redis may be replaced or destroyed."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a run was given as parameters."""

    approved: str = ""
    may_replace: bool = False
    wait_min: int = 0


def require_approval(site: Site, planned: PlanSummary, given: Given) -> None:
    """Require that a person approves exactly this plan, unless it is empty or the target approves plans itself.

    Raises:
        NotApproved: it was not approved.
    """
    if planned.empty or site.block.auto_approve:
        return
    reason = objection(planned, given.approved, given.may_replace)
    if not reason:
        return
    how = _how(site, planned)
    if given.wait_min:
        get_run_logger().warning("%s; waiting %d minutes for an approval. %s", reason, given.wait_min, how)
        answer = _ask(how, given.wait_min * MINUTE_S)
        reason = objection(planned, answer.plan.strip(), answer.may_replace) if answer else f"nobody answered in {given.wait_min} minutes"
        if not reason:
            get_run_logger().info("plan %s is approved", planned.digest)
            return
    raise NotApproved(f"{reason}; nothing was made. {how}")


def objection(planned: PlanSummary, approved: str, may_replace: bool) -> str:
    """Why this plan must not be applied; empty: it may."""
    if not approved:
        return f"Terraform plans {planned}, and nobody has approved it"
    if approved != planned.digest:
        return f"approved is {approved}, and this plan is {planned.digest}: it has changed since it was shown"
    lost = taken_away(planned, PROTECTED)
    if lost and not may_replace:
        return f"the plan replaces or destroys {', '.join(lost)}, which needs a second yes (may_replace)"
    return ""


def _how(site: Site, planned: PlanSummary) -> str:
    yes = " and may_replace=true" if taken_away(planned, PROTECTED) else ""
    return (
        f"Look at the artifact terraform-plan-{site.infrastructure.name} of this run; to approve exactly this plan, resume the paused run "
        f"in Prefect's UI, or run it again, with approved={planned.digest}{yes}"
    )


def _ask(how: str, within_s: float) -> Approval | None:
    form = Approval.with_initial_data(description=how)
    try:
        # The server would end the run with a reason of its own, so the run gives up first.
        with timeout(seconds=within_s):
            return pause_flow_run(wait_for_input=form, timeout=round(within_s + BEYOND_S), poll_interval=LOOK_EVERY_S)
    except (TimeoutError, FlowPauseTimeout):
        return None
