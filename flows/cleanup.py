"""Clean-up: the service and the infrastructure are removed."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.checks import checked_site, refusable


@flow(name="cleanup")
@refusable
def cleanup(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, service: Service = SERVICE, remove_foreign: bool = False) -> None:
    """Remove the service, destroy what Terraform created, and check that nothing is left but the bucket with the evidence.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform created; only its name is used.
        service: What was deployed.
        remove_foreign: Whether load balancers that others made in the stack's network are removed, too. Without it they are named.
    """
    stages.cleanup(checked_site(target, infrastructure), service, stages.Run.current(), remove_foreign)
