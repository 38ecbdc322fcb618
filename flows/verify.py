"""Whether a provisioned cluster can take the service."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages


@flow(name="verify")
def verify(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, service: Service = SERVICE) -> None:
    """Check nodes, Neuron devices, DNS, Redis and the registry. Changes nothing.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform made.
        service: What is to be deployed.
    """
    site = stages.site_of(target, infrastructure, service)
    stages.verify(site, service, stages.outputs_of(site))
