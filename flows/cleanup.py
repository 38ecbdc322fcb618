"""Back to nothing."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages


@flow(name="cleanup")
def cleanup(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, service: Service = SERVICE) -> None:
    """Remove the service, destroy what Terraform made, and make sure that nothing is left but the bucket with the evidence.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform made; only its name matters.
        service: What was deployed.
    """
    stages.cleanup(stages.site_of(target, infrastructure), service, stages.Run.current())
