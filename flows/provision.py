"""Provisioning: the infrastructure, by Terraform."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.checks import checked_site, refusable
from flows.runs.approval import Given
from tasks.terraform.infrastructure import Outputs


@flow(name="provision")
@refusable
def provision(
    target: str,
    infrastructure: Infrastructure = INFRASTRUCTURE,
    service: Service = SERVICE,
    approved: str = "",
    may_replace: bool = False,
    approval_within_min: Annotated[int, Field(ge=0, le=1440)] = 30,
) -> Outputs | None:
    """Make a plan and, once it is approved, apply it. Running it again changes nothing.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform creates.
        service: What will be deployed: infrastructure on which it cannot run, or a model that it cannot have, is refused before the plan.
        approved: Digest of the plan that a person has read and approves, as the plan's artifact names it. Another plan asks again. Not
            needed if the target approves plans itself.
        may_replace: Whether the approved plan may also replace or destroy the cluster, its network or its Redis: the second yes.
        approval_within_min: Minutes for which the run waits, paused, for an approval in Prefect's UI. 0: it ends as NotApproved at once.
    """
    site = checked_site(target, infrastructure, service)
    stages.check(site, service, provisioning=True)
    return stages.apply(site, stages.plan(site, Given(approved, may_replace, approval_within_min)))
