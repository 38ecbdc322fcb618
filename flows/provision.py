"""The infrastructure, by Terraform."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas import State

from blocks.parameters import INFRASTRUCTURE, Infrastructure
from flows import stages
from tasks.terraform.infrastructure import Outputs


@flow(name="provision")
def provision(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, approved: bool = False) -> Outputs | State | None:
    """Plan, and once the plan is approved make what Terraform makes. Running it again changes nothing.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform makes.
        approved: That the plan was looked at and may be carried out. Not needed where the target approves by itself.
    """
    try:
        site = stages.site_of(target, infrastructure)
        return stages.apply(site, stages.plan(site, approved))
    except stages.REFUSALS as reason:
        return stages.refusal(reason)
