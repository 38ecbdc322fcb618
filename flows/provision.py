"""Provisioning: the infrastructure, by Terraform."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, Infrastructure
from flows import stages
from flows.checks import checked_site, refusable
from tasks.terraform.infrastructure import Outputs


@flow(name="provision")
@refusable
def provision(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, approved: bool = False) -> Outputs | None:
    """Make a plan and, once it is approved, apply it. Running it again changes nothing.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform creates.
        approved: Whether a person has read the plan and approves it. Not needed if the target approves plans itself.
    """
    site = checked_site(target, infrastructure)
    return stages.apply(site, stages.plan(site, approved))
