"""The service on a provisioned cluster."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.hooks import ask_for_sweep


@flow(name="deploy", on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
def deploy(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, service: Service = SERVICE) -> None:
    """Build and push the images, install KubeRay, deploy the service and the chat, wait until they answer.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform made.
        service: What is deployed.
    """
    run = stages.Run.current()
    site = stages.site_of(target, infrastructure, service)
    stages.can_have_images(site)
    with stages.bundled(site, service, run):
        stages.deploy(site, service, stages.outputs_of(site), run)
