"""Refresh: the nodes of the model are replaced while the service goes on answering."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from prefect import flow, tags
from prefect.client.schemas import State
from prefect.states import Completed

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.checks import BadParameters, checked_site, refusable
from flows.hooks import ask_for_sweep
from tasks.cluster.karpenter import move_to_newest_ami
from tasks.drill.steps import holding_lock, release_lock, take_lock
from tasks.service.refresh import (
    OldNode,
    Replaced,
    Which,
    add_worker,
    find_old_nodes,
    remove_node,
    retire_worker,
    settle_workers,
    show_refresh,
)
from tasks.support.site import Site


@flow(name="refresh", on_failure=[ask_for_sweep], on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
@refusable
def refresh(
    target: str,
    infrastructure: Infrastructure = INFRASTRUCTURE,
    service: Service = SERVICE,
    nodes: Literal["drifted", "all"] = "drifted",
) -> State:
    """Replace inf2 nodes of Karpenter, one after the other: a new worker answers before an old one is deleted. After an error or a
    crash, run it again: it continues where the last run ended.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform created.
        service: What runs there, as it was deployed.
        nodes: Nodes to replace: "drifted", those that Karpenter reports as drifted (a newer AMI, another template) or wants to
            terminate (AWS's maintenance); "all", all.
    """
    run = stages.Run.current()
    site = checked_site(target, infrastructure, service)
    if service.workers_per_node > 1:
        raise BadParameters("refresh replaces nodes with one worker; of several workers on a node drain each by hand (kubectl drain)")
    with stages.debug_bundle_on_error(site, service, run):
        done = replace_old_nodes(site, service, nodes, run)
    return Completed(message=f"{len(done)} nodes were replaced" if done else "no node is old")


def replace_old_nodes(site: Site, service: Service, which: Which, run: stages.Run) -> list[Replaced]:
    """Replace the model's old nodes one after the other, under the drill's lock. After an error the next run continues the work."""
    done: list[Replaced] = []
    with tags("stage:refresh"):
        take_lock(site, service, run.id, "refresh", time.time())
        with holding_lock(site, service, run.id, release_lock) as check:
            move_to_newest_ami(site)
            for node in find_old_nodes(site, service, which, run.id):
                done.append(replace_node(site, service, node, check))
                show_refresh(done)
            if not done:
                settle_workers(site, service, check)
    return done


def replace_node(site: Site, service: Service, node: OldNode, check: Callable[[], None]) -> Replaced:
    """Replace one node by another. `check` is called at every observation and may end the work by an error."""
    began = time.time()
    moved = add_worker(site, service, node, check)
    retire_worker(site, service, node, check)
    newest = settle_workers(site, service, check)
    remove_node(site, node, check)
    return Replaced(old=node.name, new=newest if moved else "", seconds=time.time() - began)
