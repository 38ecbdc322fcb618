"""Replacing the nodes of the model under load, one after the other: a new worker answers before an old one goes.

A node is replaced in four steps, each of which looks at the cluster first and does what is missing, so that a run that died is
finished by the next one, wherever it was:

    add worker       one worker and one replica more than there are, on a node that Karpenter launches
    retire worker    nobody may be placed on the old node any more; its worker ends its streams and goes
    settle workers   as many workers and replicas as before
    remove node      the node's NodeClaim, and with it the instance

Serve keeps the greater number of replicas until the old worker is gone: with the smaller one it would choose by itself what to stop,
and might choose a new one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Literal

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel

from blocks.errors import Permanent, PipelineError, TimedOut
from blocks.parameters import Service
from tasks.cluster.karpenter import CLAIMS, POOLS
from tasks.kubernetes import node_labels
from tasks.kubernetes.api import Api, Object, conditions
from tasks.kubernetes.node_labels import NODES
from tasks.service import worker_group
from tasks.service.rayservice import wait_until_serving
from tasks.service.worker_group import NotAsDeployed, Size, WorkerGroup
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step
from tasks.support.waiting import Pending, Until

MARK = "leeward.dev/refresh"
"""Annotation of a node that is being replaced: the id of the flow run that chose it."""
SINCE = "leeward.dev/refresh-since"
"""And when it chose, as Kubernetes writes a time."""
LOOK_EVERY_S = 1.0
TAKEN_UP_WITHIN_S = 60.0
"""KubeRay deletes a worker within a second of being told; longer, and it is away."""
BEYOND_GRACE_S = 120.0
"""Until a pod that used up its grace is gone from the API as well."""
NODE_GONE_WITHIN_S = 420.0
"""A node is drained, and its instance takes a minute or two to end."""

Which = Literal["drifted", "all"]
OnLook = Callable[[Pending], None]


class NotReplaceable(Permanent):
    """A node is not Karpenter's, so nobody launches another one in its place."""


class NoRoom(Permanent):
    """The NodePool may not have one node more."""


class OldNode(BaseModel, frozen=True):
    """A node to be replaced."""

    name: str
    claim: str
    """Name of its NodeClaim. Empty: it is on its way already."""


class Replaced(BaseModel, frozen=True):
    """What became of an old node."""

    old: str
    new: str
    """Node of the worker that came for it; empty when no worker was on the old one."""
    seconds: float


def choose(api: Api, service: Service, which: Which, owner: str, now: float) -> list[OldNode]:
    """The nodes to replace, those without a worker first: else a new worker might come to be on one of them.

    A run that is tried again goes on with what it chose before, and every run finishes what another one left cordoned.

    Args:
        now: Nodes that came later are never old. A run that is tried again goes by the time at which it chose first.

    Raises:
        NotReplaceable: a node is not Karpenter's; nothing was touched.
        NoRoom: there may be no further node; nothing was touched.
        NotAsDeployed: the parameters are not those of what runs; nothing was touched.
    """
    nodes = node_labels.inf2(api)
    claims = {c.get("status", {}).get("nodeName"): c for c in api.items(CLAIMS)}
    since = min([_time(now), *(_note(n, SINCE) for n in nodes if _note(n, MARK) == owner)])
    begun = [n for n in nodes if _note(n, MARK) == owner or (_note(n, MARK) and n["spec"].get("unschedulable"))]
    ours = [n for n in _of_karpenter(nodes, claims, which) if n not in begun and n["metadata"]["creationTimestamp"] <= since]
    chosen = [*begun, *(n for n in ours if which == "all" or _old(claims[n["metadata"]["name"]]))]
    group = worker_group.read(api, service)
    wanted(group, service)
    chosen.sort(key=lambda n: (group.on(n["metadata"]["name"]) is not None, n["metadata"]["creationTimestamp"]))
    _check_room(api, service, group, nodes, chosen)
    for node in chosen:
        if _note(node, MARK) != owner:
            api.merge(f"{NODES}/{node['metadata']['name']}", {"metadata": {"annotations": {MARK: owner, SINCE: since}}})
    names = [n["metadata"]["name"] for n in chosen]
    return [OldNode(name=name, claim=claims[name]["metadata"]["name"] if name in claims else "") for name in names]


def _of_karpenter(nodes: list[Object], claims: dict[str, Object], which: Which) -> list[Object]:
    ours = [n for n in nodes if node_labels.nodepool(n) and n["metadata"]["name"] in claims]
    others = [n["metadata"]["name"] for n in nodes if n not in ours]
    if others and (which == "all" or not ours):
        raise NotReplaceable(
            f"{', '.join(others)}: no node of Karpenter. A managed node group is updated by EKS "
            "(aws eks update-nodegroup-version), and any other node by whoever made it"
        )
    return ours


def _check_room(api: Api, service: Service, group: WorkerGroup, nodes: list[Object], chosen: list[Object]) -> None:
    """One node more may come to be, where one is needed."""
    taken = [n for n in chosen if group.on(n["metadata"]["name"])]
    if not taken or len(taken) < len(chosen) or len(group.pods) > wanted(group, service):
        return
    if any(n not in chosen and not n["spec"].get("unschedulable") and not group.on(n["metadata"]["name"]) for n in nodes):
        return
    pool = node_labels.nodepool(taken[0])
    limit = ((api.find(f"{POOLS}/{pool}") or {}).get("spec", {}).get("limits") or {}).get("nodes")
    there = sum(node_labels.nodepool(c) == pool for c in api.items(CLAIMS))
    if limit is not None and there >= int(limit):
        raise NoRoom(f"NodePool {pool} has {there} nodes and may have {limit}: raise inf2_nodes.count and provision again")


def wanted(group: WorkerGroup, service: Service) -> int:
    """How many workers there shall be when a node has been replaced. With scaling: as many as the load has now.

    Raises:
        NotAsDeployed: there are other numbers of them than this service, or a refresh of it, could have made.
    """
    least = group.size.least
    if least < service.workers or (least > service.workers + 1 and not group.scaled):
        raise NotAsDeployed(
            f"RayCluster {group.cluster} has {least} workers at least and service.workers is {service.workers}: "
            "give the parameters that it was deployed with"
        )
    if not group.scaled:
        return service.workers
    # Only a refresh raises the least number, and it raises it by one.
    return least - 1 if least > service.workers else max(service.workers, len(group.staying))


def grow(api: Api, service: Service, node: str, on_pending: OnLook) -> bool:
    """The service has one worker and one replica more than it will have, and they answer. False: there is no worker on the node
    that stays until then, so nothing is needed.

    Raises:
        TimedOut: the new one does not answer in time. It is not waited for any longer; the old ones serve on.
    """
    group = worker_group.read(api, service)
    old = group.on(node)
    if old is None:
        return False
    if old["metadata"]["name"] in group.size.leaving or "deletionTimestamp" in old["metadata"]:
        return True
    more = wanted(group, service) + 1
    worker_group.resize(api, service, group, Size(max(more, group.size.workers), more, max(more, group.size.most), group.size.leaving))
    worker_group.set_replicas(api, service, more, max(more, service.most_workers))
    try:
        wait_until_serving(api, service.model_copy(update={"workers": more}), service.ready_within_s, on_pending)
    except TimedOut:
        with contextlib.suppress(PipelineError):  # the reason is the one above
            _back(api, service)
        raise
    return True


def cordon(api: Api, node: str) -> None:
    """Nobody is placed on the node any more."""
    if api.find(f"{NODES}/{node}"):
        api.merge(f"{NODES}/{node}", {"spec": {"unschedulable": True}})


def retire(api: Api, service: Service, node: str, on_pending: OnLook) -> None:
    """The worker on the node has ended its streams and is gone; Serve goes on wanting its replicas.

    Raises:
        TimedOut: it does not go.
    """
    old = worker_group.read(api, service).on(node)
    if old is None:
        return
    name = str(old["metadata"]["name"])
    grace = float(old["spec"].get("terminationGracePeriodSeconds", 30))
    Until(f"KubeRay to delete worker {name}", lambda: _leave(api, service, name), TAKEN_UP_WITHIN_S, LOOK_EVERY_S, on_pending).wait()
    group = worker_group.read(api, service)
    if group.scaled:
        # Its replicas wait for another place, for which the autoscaler would bring another worker. Only now: told before, it might
        # ask any worker to leave, to come down to that number.
        size = group.size
        worker_group.resize(api, service, group, Size(size.workers, size.least, max(size.least, len(group.staying)), size.leaving))
    within = grace + BEYOND_GRACE_S
    Until(f"worker {name} on {node} to end its streams", lambda: _gone(api, service, [name]), within, LOOK_EVERY_S, on_pending).wait()


def _leave(api: Api, service: Service, name: str) -> bool | Pending:
    """The pod is being deleted. Asked again when the autoscaler, which writes the same list, wrote over it."""
    group = worker_group.read(api, service)
    if name not in {pod["metadata"]["name"] for pod in group.staying}:
        return True
    if name not in group.size.leaving:
        least = service.workers
        left = max(least, len(group.staying) - 1) if group.scaled else least
        worker_group.resize(api, service, group, Size(left, least, group.size.most if group.scaled else least, (name,)))
    return Pending("KubeRay has not taken it up")


def _gone(api: Api, service: Service, names: Iterable[str]) -> bool | Pending:
    left = {pod["metadata"]["name"] for pod in worker_group.read(api, service).pods} & set(names)
    return Pending(f"{', '.join(sorted(left))}: ending, its streams first") if left else True


def settle(api: Api, service: Service, on_pending: OnLook) -> str:
    """The service has the workers and replicas that it is deployed with and is in its steady state; returns the node of its newest
    worker.

    Raises:
        TimedOut: not within its time.
    """
    _back(api, service, on_pending)
    snapshot = wait_until_serving(api, service, service.ready_within_s, on_pending)
    return snapshot.workers[-1].node or ""


def _back(api: Api, service: Service, on_pending: OnLook | None = None) -> None:
    """The numbers are as deployed. Workers beyond them, which a run left that died, go by name: KubeRay would choose any."""
    group = worker_group.read(api, service)
    beyond, size = () if group.scaled else group.surplus(service.workers), group.as_deployed(service)
    worker_group.resize(api, service, group, size)
    if beyond and on_pending is not None:
        grace = max(float(pod["spec"].get("terminationGracePeriodSeconds", 30)) for pod in group.pods)
        Until(
            "workers beyond the wanted number to go", lambda: _gone(api, service, beyond), grace + BEYOND_GRACE_S, LOOK_EVERY_S, on_pending
        ).wait()
    worker_group.set_replicas(api, service, service.workers, service.most_workers)


def remove(api: Api, node: OldNode, on_pending: OnLook) -> None:
    """The node is gone, with its instance.

    Raises:
        TimedOut: it does not go.
    """
    paths = {"NodeClaim": f"{CLAIMS}/{node.claim}" if node.claim else "", "Node": f"{NODES}/{node.name}"}
    if node.claim:
        api.delete(paths["NodeClaim"])

    def probe() -> bool | Pending:
        left = [kind for kind, path in paths.items() if path and api.find(path)]
        return Pending(f"{' and '.join(left)} {node.name} still there") if left else True

    Until(f"node {node.name} to go", probe, NODE_GONE_WITHIN_S, 2.0, on_pending).wait()


def _note(node: Object, key: str) -> str:
    return str((node["metadata"].get("annotations") or {}).get(key, ""))


def _time(seconds: float) -> str:
    """As Kubernetes writes it, so that the order of texts is that of times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _old(claim: Object) -> bool:
    """Drifted, or deleted, as for maintenance by AWS: then the drain waits for the worker, which Karpenter may not move."""
    return conditions(claim).get("Drifted", False) or "deletionTimestamp" in claim["metadata"]


@step("find old nodes", deadline_s=120)
def find_old_nodes(site: Site, service: Service, which: Which, owner: str) -> list[OldNode]:
    """The nodes to replace, in their order; they are marked as this run's."""
    found = choose(site.api(), service, which, owner, time.time())
    get_run_logger().info("to be replaced: %s", ", ".join(node.name for node in found) or "none")
    return found


@step("add worker", deadline_s=7400)
def add_worker(site: Site, service: Service, node: OldNode, check: Callable[[], None]) -> bool:
    """A further worker answers, if there is one on the node; returns whether there is."""
    progress = Progress("add-worker")
    found = grow(site.api(), service, node.name, progress.checked(check))
    progress.show(100, f"there is a worker more than needed, for that on {node.name}" if found else f"{node.name} has no worker")
    return found


@step("retire worker", deadline_s=600)
def retire_worker(site: Site, service: Service, node: OldNode, check: Callable[[], None]) -> None:
    """No worker is on the node, and none comes to it."""
    progress = Progress("retire-worker")
    cordon(site.api(), node.name)
    retire(site.api(), service, node.name, progress.checked(check))
    progress.show(100, f"no worker is on {node.name}")


@step("settle workers", deadline_s=7400)
def settle_workers(site: Site, service: Service, check: Callable[[], None]) -> str:
    """The service is as it was deployed; returns the node of its newest worker."""
    progress = Progress("settle-workers")
    newest = settle(site.api(), service, progress.checked(check))
    progress.show(100, f"{service.workers} workers at least, and all answer")
    return newest


@step("remove node", deadline_s=600)
def remove_node(site: Site, node: OldNode, check: Callable[[], None]) -> None:
    """The node is gone."""
    progress = Progress("remove-node")
    remove(site.api(), node, progress.checked(check))
    progress.show(100, f"{node.name} is gone")


@step("show refresh", deadline_s=60)
def show_refresh(done: list[Replaced]) -> None:
    """What was replaced so far, as a table."""
    table = [{"old node": one.old, "new node": one.new or "none was needed", "seconds": round(one.seconds)} for one in done]
    create_table_artifact(key="refresh", table=table, description=f"{len(done)} nodes were replaced")
