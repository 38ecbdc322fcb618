"""Checks between provisioning and deploying: shown as one table, each with what to do when it fails.

The checks are plain functions that return a `Check`. They raise only if a request gets no answer; then the task is retried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from blocks.errors import Permanent, PipelineError
from blocks.parameters import Infrastructure, Service
from blocks.target import Target
from drills.kubernetes import node_labels
from drills.kubernetes.api import Api, Object
from drills.runner.waiting import Pending, Until
from tasks.cluster import karpenter, neuron
from tasks.cluster.redis import Redis, find_redis, ping
from tasks.images import registry
from tasks.support.checks import Check, show_checks
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step
from tasks.terraform.infrastructure import Outputs

NODES_WITHIN_S = 600.0
"""Seconds. A node group is created before its nodes are Ready; an AMI takes a minute or two to start."""
DNS_WITHIN_S = 300.0
KARPENTER_WITHIN_S = 180.0


class NotReady(Permanent):
    """At least one check failed."""


def ready_by_pool(nodes: Iterable[Object]) -> dict[str, list[Object]]:
    """Ready nodes by their pool label; nodes without one are under ""."""
    found: dict[str, list[Object]] = {}
    for node in nodes:
        if node_labels.ready(node):
            found.setdefault(node_labels.pool(node), []).append(node)
    return found


def nodes_missing(nodes: list[Object], wanted: dict[str, int]) -> str:
    """Describe which Ready nodes are missing in each pool, and which nodes offer no Neuron chip; empty: nothing is missing."""
    ready = ready_by_pool(nodes)
    missing = [f"{len(ready.get(pool, []))} of {n} {pool} nodes Ready" for pool, n in wanted.items() if len(ready.get(pool, [])) < n]
    bare = neuron.without_chip(ready.get(node_labels.INF2, []))
    return "; ".join([*missing, *(f"{name} offers no {neuron.CHIP}" for name in bare)])


def wanted_nodes(infrastructure: Infrastructure, service: Service, *, provisioned: bool, on_demand: bool) -> dict[str, int]:
    """Number of nodes that each pool must have: all that Terraform created, or all that are needed. Without the nodes that Karpenter
    launches on demand."""
    core, inf2 = (infrastructure.core_nodes.count, infrastructure.inf2_nodes.count) if provisioned else (1, service.nodes)
    return {"core": core} if on_demand else {"core": core, node_labels.INF2: inf2}


def check_nodes(api: Api, wanted: dict[str, int], within_s: float, on_pending: Callable[[Pending], None]) -> Check:
    """Check that the nodes exist, are Ready and labelled, and that the inf2 nodes offer their chips."""

    def probe() -> list[Object] | Pending:
        nodes = api.items(node_labels.NODES)
        missing = nodes_missing(nodes, wanted)
        if neuron.CHIP in missing:
            missing = "; ".join([missing, *neuron.troubles(api)])
        return Pending(missing, 100 * sum(map(len, ready_by_pool(nodes).values())) / max(1, sum(wanted.values()))) if missing else nodes

    try:
        nodes = Until("the nodes", probe, within_s, 2.0, on_pending).wait()
    except Permanent as error:
        return Check(
            "nodes", "bad", f"{error}; look at the node groups in EKS, at `kubectl describe node`, and at `kubectl -n kube-system get pods`"
        )
    return Check("nodes", "ok", ", ".join(f"{len(found)} {pool or 'other'}" for pool, found in sorted(ready_by_pool(nodes).items())))


def check_karpenter(api: Api, within_s: float, on_pending: Callable[[Pending], None]) -> Check:
    """Check that Karpenter runs and can launch nodes."""

    def probe() -> list[str] | Pending:
        found = karpenter.available(api)
        return found if isinstance(found, Pending) else karpenter.pools_ready(api)

    try:
        return Check("Karpenter", "ok", f"launches nodes for {', '.join(Until('Karpenter', probe, within_s, 2.0, on_pending).wait())}")
    except Permanent as error:
        return Check("Karpenter", "bad", f"{error}; look at `kubectl -n kube-system logs deployment/karpenter`")


def check_dns(api: Api, within_s: float, on_pending: Callable[[Pending], None]) -> Check:
    """Check that the cluster's DNS has ready endpoints."""

    def probe() -> int | Pending:
        slices = api.items(
            "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", labelSelector="kubernetes.io/service-name=kube-dns"
        )
        ready = sum(bool(e.get("conditions", {}).get("ready")) for s in slices for e in s.get("endpoints") or ())
        return ready or Pending("no DNS pod is ready")

    try:
        return Check("DNS", "ok", f"{Until('DNS', probe, within_s, 2.0, on_pending).wait()} endpoints")
    except Permanent as error:
        return Check("DNS", "bad", f"{error}; look at `kubectl -n kube-system get pods`")


def check_redis(redis: Redis | None, service: Service) -> Check:
    """Check that Redis accepts TLS and AUTH, if it can be reached from this machine."""
    if redis is None:
        return Check("Redis", "bad" if service.gcs_fault_tolerance else "not checked", "there is none: no GCS fault tolerance")
    try:
        reached = ping(redis)
    except PipelineError as error:
        return Check("Redis", "bad", str(error))
    return (
        Check("Redis", "ok", "TLS and AUTH")
        if reached
        else Check("Redis", "not checked", f"{redis.address} is not reachable from here; the first head will show it")
    )


def check_registry(target: Target, repository_url: str | None) -> Check:
    """Check that the registry answers and accepts the login."""
    if target.images.ready or not repository_url:
        return Check("registry", "not checked", "the target has a ready image")
    try:
        repository = registry.Repository.parse(repository_url, target.images.plain_http, registry.ecr_login(target.session()))
        repository.digest("leeward-check")
    except PipelineError as error:
        return Check("registry", "bad", str(error))
    return Check("registry", "ok", repository.host)


@step("check cluster", deadline_s=1200)
def check_cluster(site: Site, service: Service, outputs: Outputs | None) -> str:
    """Check that the service can be deployed to the cluster; returns its Kubernetes version.

    Raises:
        NotReady: it cannot; the message has all failed checks.
    """
    api, target, progress = site.api(), site.block, Progress("verify")
    version = str(api.get("/version")["gitVersion"])
    on_demand = bool(api.items(karpenter.POOLS, labelSelector=karpenter.MADE_HERE))
    wanted = wanted_nodes(site.infrastructure, service, provisioned=target.provisioned, on_demand=on_demand)
    checks = [
        Check("Kubernetes", "ok", version),
        check_nodes(api, wanted, NODES_WITHIN_S, progress.show_pending),
        *([check_karpenter(api, KARPENTER_WITHIN_S, progress.show_pending)] if on_demand else []),
        check_dns(api, DNS_WITHIN_S, progress.show_pending),
        check_redis(find_redis(site, outputs), service),
        check_registry(target, outputs.serving_repository_url if outputs else None),
    ]
    progress.show(100, f"{sum(c.result == 'ok' for c in checks)} of {len(checks)} checks are ok")
    if failed := show_checks("checks", checks):
        raise NotReady(failed)
    return version
