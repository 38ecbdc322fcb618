"""Replaces the nodes of the model under load, one after the other: a new worker answers before an old one is deleted.

A node is replaced in four steps. Each step first reads the state of the cluster and does only what is missing, so that the next run
can finish the work of a run that died at any point:

    add worker       one worker and one replica more than before, on a node that Karpenter launches
    retire worker    the old node is cordoned; its worker finishes its streams and is deleted
    settle workers   as many workers and replicas as before
    remove node      the node's NodeClaim is deleted, and the instance with it

Serve keeps the larger number of replicas until the old worker is gone: with the smaller one Serve itself would choose which replica
to stop, and might choose a new one.
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
from drills.kubernetes import node_labels
from drills.kubernetes.api import Api, Object, conditions
from drills.kubernetes.node_labels import NODES
from drills.runner.waiting import Pending, Until
from tasks.cluster.karpenter import CLAIMS, POOLS
from tasks.service import worker_group
from tasks.service.engines import ready_within_s
from tasks.service.rayservice import wait_until_serving
from tasks.service.worker_group import NotAsDeployed, Size, WorkerGroup
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

MARK = "leeward.dev/refresh"
"""Annotation of a node that is being replaced: the id of the flow run that chose it."""
SINCE = "leeward.dev/refresh-since"
"""Annotation of a node that is being replaced: when it was chosen, in Kubernetes' format of times."""
LOOK_EVERY_S = 1.0
DELETED_WITHIN_S = 60.0
"""Seconds. KubeRay normally deletes a listed worker within one second."""
BEYOND_GRACE_S = 120.0
"""Seconds after its grace period within which a pod must be gone from the API."""
NODE_GONE_WITHIN_S = 420.0
"""Seconds. A node is drained, and its instance takes a minute or two to end."""

Which = Literal["drifted", "all"]
OnLook = Callable[[Pending], None]


class NotReplaceable(Permanent):
    """A node was not launched by Karpenter, so it would not be replaced."""


class NoRoom(Permanent):
    """The NodePool's limit allows no further node."""


class OldNode(BaseModel, frozen=True):
    """A node to be replaced."""

    name: str
    claim: str
    """Name of its NodeClaim. Empty: the NodeClaim is deleted already."""


class Replaced(BaseModel, frozen=True):
    """The result of replacing one node."""

    old: str
    new: str
    """Node of the new worker; empty: the old node had no worker."""
    seconds: float


def choose(api: Api, service: Service, which: Which, owner: str, now: float) -> list[OldNode]:
    """Choose and mark the nodes to replace. Nodes without a worker come first, or a new worker might be placed on one of them.

    A retried run goes on with the nodes that it chose before, and every run finishes nodes that another run left cordoned.

    Args:
        now: Nodes created later are never chosen. A retried run uses the time of its first choice.

    Raises:
        NotReplaceable: a node was not launched by Karpenter; nothing was changed.
        NoRoom: the NodePool allows no further node; nothing was changed.
        NotAsDeployed: the parameters do not match the running service; nothing was changed.
    """
    nodes = node_labels.inf2(api)
    claims = {c.get("status", {}).get("nodeName"): c for c in api.items(CLAIMS)}
    since = min([_time(now), *(_note(n, SINCE) for n in nodes if _note(n, MARK) == owner)])
    begun = [n for n in nodes if _note(n, MARK) == owner or (_note(n, MARK) and n["spec"].get("unschedulable"))]
    fresh = [n for n in _karpenter_nodes(nodes, claims, which) if n not in begun and n["metadata"]["creationTimestamp"] <= since]
    chosen = [*begun, *(n for n in fresh if which == "all" or _old(claims[n["metadata"]["name"]]))]
    group = worker_group.read(api, service)
    wanted_workers(group, service)
    chosen.sort(key=lambda n: (group.on(n["metadata"]["name"]) is not None, n["metadata"]["creationTimestamp"]))
    _check_room(api, service, group, nodes, chosen)
    for node in chosen:
        if _note(node, MARK) != owner:
            api.merge(f"{NODES}/{node['metadata']['name']}", {"metadata": {"annotations": {MARK: owner, SINCE: since}}})
    names = [n["metadata"]["name"] for n in chosen]
    return [OldNode(name=name, claim=claims[name]["metadata"]["name"] if name in claims else "") for name in names]


def _karpenter_nodes(nodes: list[Object], claims: dict[str, Object], which: Which) -> list[Object]:
    found = [n for n in nodes if node_labels.nodepool(n) and n["metadata"]["name"] in claims]
    others = [n["metadata"]["name"] for n in nodes if n not in found]
    if others and (which == "all" or not found):
        raise NotReplaceable(
            f"{', '.join(others)}: not launched by Karpenter. A managed node group is updated by EKS "
            "(aws eks update-nodegroup-version); any other node must be replaced by its owner"
        )
    return found


def _check_room(api: Api, service: Service, group: WorkerGroup, nodes: list[Object], chosen: list[Object]) -> None:
    """Check that the NodePool allows one more node, if one is needed."""
    taken = [n for n in chosen if group.on(n["metadata"]["name"])]
    if not taken or len(taken) < len(chosen) or len(group.pods) > wanted_workers(group, service):
        return
    if any(n not in chosen and not n["spec"].get("unschedulable") and not group.on(n["metadata"]["name"]) for n in nodes):
        return
    pool = node_labels.nodepool(taken[0])
    limit = ((api.find(f"{POOLS}/{pool}") or {}).get("spec", {}).get("limits") or {}).get("nodes")
    present = sum(node_labels.nodepool(c) == pool for c in api.items(CLAIMS))
    if limit is not None and present >= int(limit):
        raise NoRoom(f"NodePool {pool} has {present} nodes and may have {limit}: raise inf2_nodes.count and provision again")


def wanted_workers(group: WorkerGroup, service: Service) -> int:
    """The number of workers after a node has been replaced. With scaling: the present number.

    Raises:
        NotAsDeployed: the numbers in the RayCluster cannot come from this service or from a refresh of it.
    """
    least = group.size.least
    if least < service.workers or (least > service.workers + 1 and not group.scaled):
        raise NotAsDeployed(
            f"RayCluster {group.cluster} has {least} workers at least and service.workers is {service.workers}: "
            "give the parameters that it was deployed with"
        )
    if not group.scaled:
        return service.workers
    # Only a refresh raises the minimum, and it raises it by one.
    return least - 1 if least > service.workers else max(service.workers, len(group.staying))


def grow(api: Api, service: Service, node: str, on_pending: OnLook) -> bool:
    """Add one worker and one replica, and wait until they answer. Returns False if the node has no worker, so none is needed.

    Raises:
        TimedOut: the new worker does not answer in time. The old size is restored, and the old workers go on serving.
    """
    group = worker_group.read(api, service)
    old = group.on(node)
    if old is None:
        return False
    if old["metadata"]["name"] in group.size.leaving or "deletionTimestamp" in old["metadata"]:
        return True
    more = wanted_workers(group, service) + 1
    worker_group.resize(api, service, group, Size(max(more, group.size.workers), more, max(more, group.size.most), group.size.leaving))
    worker_group.set_replicas(api, service, more, max(more, service.most_workers))
    try:
        wait_until_serving(api, service.model_copy(update={"workers": more}), ready_within_s(service), on_pending)
    except TimedOut:
        with contextlib.suppress(PipelineError):  # the timeout is the error to report
            _restore_size(api, service)
        raise
    return True


def cordon(api: Api, node: str) -> None:
    """Mark the node as unschedulable."""
    if api.find(f"{NODES}/{node}"):
        api.merge(f"{NODES}/{node}", {"spec": {"unschedulable": True}})


def retire(api: Api, service: Service, node: str, on_pending: OnLook) -> None:
    """Delete the worker on the node and wait until it has finished its streams. The wanted number of replicas stays.

    Raises:
        TimedOut: the worker was not deleted in time.
    """
    old = worker_group.read(api, service).on(node)
    if old is None:
        return
    name = str(old["metadata"]["name"])
    grace = float(old["spec"].get("terminationGracePeriodSeconds", 30))
    Until(
        f"KubeRay to delete worker {name}", lambda: _request_deletion(api, service, name), DELETED_WITHIN_S, LOOK_EVERY_S, on_pending
    ).wait()
    group = worker_group.read(api, service)
    if group.scaled:
        # Its replicas wait for a place, for which the autoscaler would add another worker, so the maximum is lowered. Not earlier:
        # the autoscaler might then remove any worker to get down to that number.
        size = group.size
        worker_group.resize(api, service, group, Size(size.workers, size.least, max(size.least, len(group.staying)), size.leaving))
    within = grace + BEYOND_GRACE_S
    Until(f"worker {name} on {node} to end its streams", lambda: _gone(api, service, [name]), within, LOOK_EVERY_S, on_pending).wait()


def _request_deletion(api: Api, service: Service, name: str) -> bool | Pending:
    """List the pod for deletion; returns True once it is being deleted. Repeated because the autoscaler may overwrite the list."""
    group = worker_group.read(api, service)
    if name not in {pod["metadata"]["name"] for pod in group.staying}:
        return True
    if name not in group.size.leaving:
        least = service.workers
        left = max(least, len(group.staying) - 1) if group.scaled else least
        worker_group.resize(api, service, group, Size(left, least, group.size.most if group.scaled else least, (name,)))
    return Pending("KubeRay has not deleted it yet")


def _gone(api: Api, service: Service, names: Iterable[str]) -> bool | Pending:
    left = {pod["metadata"]["name"] for pod in worker_group.read(api, service).pods} & set(names)
    return Pending(f"{', '.join(sorted(left))}: finishing its streams") if left else True


def settle(api: Api, service: Service, on_pending: OnLook) -> str:
    """Restore the deployed numbers of workers and replicas, and wait for the steady state; returns the node of the newest worker.

    Raises:
        TimedOut: the steady state was not reached in time.
    """
    _restore_size(api, service, on_pending)
    snapshot = wait_until_serving(api, service, ready_within_s(service), on_pending)
    return snapshot.workers[-1].node or ""


def _restore_size(api: Api, service: Service, on_pending: OnLook | None = None) -> None:
    """Set the numbers as deployed. Surplus workers of a dead run are deleted by name, because KubeRay would choose any."""
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
    """Delete the node's NodeClaim and wait until node and instance are gone.

    Raises:
        TimedOut: they are not gone in time.
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
    """Format a time as Kubernetes does, so that texts sort like times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _old(claim: Object) -> bool:
    """Whether the NodeClaim is drifted or being deleted, for AWS's maintenance for example: then its drain waits for the worker."""
    return conditions(claim).get("Drifted", False) or "deletionTimestamp" in claim["metadata"]


@step("find old nodes", deadline_s=120)
def find_old_nodes(site: Site, service: Service, which: Which, owner: str) -> list[OldNode]:
    """Choose the nodes to replace, in their order, and mark them with this run's id."""
    found = choose(site.api(), service, which, owner, time.time())
    get_run_logger().info("to be replaced: %s", ", ".join(node.name for node in found) or "none")
    return found


def _with_engine(site: Site, service: Service) -> Service:
    """The service with its engine named, which decides how long a worker may take."""
    return service.model_copy(update={"engine": site.block.engine_of(service)})


@step("add worker", deadline_s=7400)
def add_worker(site: Site, service: Service, node: OldNode, check: Callable[[], None]) -> bool:
    """Add a worker if there is one on the node, and wait until it answers; returns whether there was one on the node."""
    progress = Progress("add-worker")
    found = grow(site.api(), _with_engine(site, service), node.name, progress.checked(check))
    progress.show(100, f"one worker more than needed, to replace that on {node.name}" if found else f"{node.name} has no worker")
    return found


@step("retire worker", deadline_s=600)
def retire_worker(site: Site, service: Service, node: OldNode, check: Callable[[], None]) -> None:
    """Cordon the node and remove its worker."""
    progress = Progress("retire-worker")
    cordon(site.api(), node.name)
    retire(site.api(), service, node.name, progress.checked(check))
    progress.show(100, f"no worker is on {node.name}")


@step("settle workers", deadline_s=7400)
def settle_workers(site: Site, service: Service, check: Callable[[], None]) -> str:
    """Restore the service's deployed size; returns the node of its newest worker."""
    progress = Progress("settle-workers")
    newest = settle(site.api(), _with_engine(site, service), progress.checked(check))
    progress.show(100, f"{service.workers} workers at least, and all answer")
    return newest


@step("remove node", deadline_s=600)
def remove_node(site: Site, node: OldNode, check: Callable[[], None]) -> None:
    """Delete the node and its instance."""
    progress = Progress("remove-node")
    remove(site.api(), node, progress.checked(check))
    progress.show(100, f"{node.name} is gone")


@step("show refresh", deadline_s=60)
def show_refresh(done: list[Replaced]) -> None:
    """Show the nodes replaced so far as a table."""
    table = [{"old node": one.old, "new node": one.new or "none was needed", "seconds": round(one.seconds)} for one in done]
    create_table_artifact(key="refresh", table=table, description=f"{len(done)} nodes were replaced")
