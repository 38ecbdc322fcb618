"""Check whether the service can be deployed to a provisioned cluster."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.checks import checked_site, refusable


@flow(name="verify")
@refusable
def verify(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, service: Service = SERVICE) -> None:
    """Check nodes, Neuron devices, DNS, Redis and the registry. Changes nothing.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform created.
        service: The service to be deployed.
    """
    site = checked_site(target, infrastructure, service)
    stages.verify(site, service, stages.read_outputs(site))
