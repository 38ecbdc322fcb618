"""Deployment of the service to a provisioned cluster."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.checks import check_images, checked_site, refusable
from flows.hooks import ask_for_sweep


@flow(name="deploy", on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
@refusable
def deploy(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, service: Service = SERVICE) -> None:
    """Build and push the images, install KubeRay, deploy the service and the chat, wait until they answer.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform created.
        service: What is deployed.
    """
    run = stages.Run.current()
    site = checked_site(target, infrastructure, service)
    check_images(site)
    with stages.debug_bundle_on_error(site, service, run):
        stages.check(site, service, provisioning=False)
        stages.deploy(site, service, stages.read_outputs(site), run)
