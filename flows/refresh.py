"""Newer nodes for a service that goes on answering."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.client.schemas import State
from prefect.states import Completed

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.hooks import ask_for_sweep


@flow(name="refresh", on_failure=[ask_for_sweep], on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
def refresh(
    target: str,
    infrastructure: Infrastructure = INFRASTRUCTURE,
    service: Service = SERVICE,
    nodes: Literal["drifted", "all"] = "drifted",
) -> State:
    """Replace inf2 nodes of Karpenter, one after the other: a new worker answers before an old one ends. Run it again after an error
    or a crash, and it goes on where that one was.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform made.
        service: What runs there, as it was deployed.
        nodes: Which are old: those that Karpenter calls drifted (a newer AMI, another template) or wants to end (AWS's
            maintenance), or all.
    """
    run = stages.Run.current()
    try:
        site = stages.site_of(target, infrastructure, service)
    except stages.REFUSALS as reason:
        return stages.refusal(reason)
    with stages.bundled(site, service, run):
        done = stages.refresh(site, service, nodes, run)
    return Completed(message=f"{len(done)} nodes were replaced" if done else "no node is old")
