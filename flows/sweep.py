"""Sweep: after a run that ended badly, its drill's load and lock are removed and its journal is closed. The infrastructure stays."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.checks import refusable
from flows.runs.silence import end_if_silent
from tasks.support.site import Site


@flow(name="sweep")
@refusable
def sweep(
    target: str,
    infrastructure: Infrastructure = INFRASTRUCTURE,
    service: Service = SERVICE,
    owner: str = "",
    silent: bool = False,
) -> list[str]:
    """Remove what a drill left in the cluster: its loads, its lock, its open journal. Nothing is removed of a run that is still going on.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform created; only its name is used.
        service: The service of the drill.
        owner: Id of the flow run of the drill; empty: all dead runs.
        silent: Whether the owner sends no heartbeats: it is then marked as ended, unless a heartbeat comes within about a minute.
    """
    if silent:
        end_if_silent(owner)
    return stages.sweep(Site(target=target, infrastructure=infrastructure), service, owner)
