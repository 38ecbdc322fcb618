"""Status: everything that exists of a stack at this moment."""

from __future__ import annotations

from prefect import flow, tags

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows.checks import refusable
from tasks.status.questions import StatusRow
from tasks.status.tables import show_status
from tasks.support.site import Site


@flow(name="status")
@refusable
def status(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, service: Service = SERVICE) -> list[StatusRow]:
    """List everything that exists of a stack, in AWS and in its cluster. Changes nothing.

    Args:
        target: Name of the saved leeward-target block to look at.
        infrastructure: What Terraform created; only its name is used.
        service: What was deployed.
    """
    with tags("stage:status"):
        return show_status(Site(target=target, infrastructure=infrastructure), service)
