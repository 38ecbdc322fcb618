"""Pure functions from Kubernetes objects of a RayService, and from Ray's responses, to the frozen values of drills.observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from drills.kubernetes import pod_problems
from drills.kubernetes.api import Object, conditions
from drills.observed import ActorSeen, DeploymentSeen, HeadSeen, ReplicaSeen, WorkerSeen

CLUSTER = "ray.io/cluster"
"""Label of KubeRay's pods with the name of their RayCluster."""
TOKEN = "RAY_AUTH_TOKEN"
"""Variable of all Ray containers with Ray's own token, where the service asks for it (KubeRay's authOptions)."""
HEAD_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Variable with the seconds that Ray's processes wait for a head that does not answer."""
NODE_TYPE = "ray.io/node-type"
"""Label of KubeRay's pods: head or worker. KubeRay's Job that empties Redis has the cluster's other labels, but not this one."""


def active_cluster(ray_service: Object | None) -> str:
    """Name of the RayCluster that serves, or of the first one while it starts; empty: there is none."""
    status = (ray_service or {}).get("status", {})
    found = [(status.get(key) or {}).get("rayClusterName", "") for key in ("activeServiceStatus", "pendingServiceStatus")]
    return next((name for name in found if name), "")


def settled(ray_service: Object) -> bool:
    """Whether the operator has observed the newest specification and no upgrade to another cluster is in progress."""
    observed = ray_service.get("status", {}).get("observedGeneration", 0) >= ray_service["metadata"]["generation"]
    return observed and not conditions(ray_service).get("UpgradeInProgress", False)


def pods_of(pods: Iterable[Object], cluster: str, node_type: str) -> list[Object]:
    """The cluster's pods of a type (head or worker), oldest first."""
    found = [
        p for p in pods if p["metadata"].get("labels", {}).get(CLUSTER) == cluster and p["metadata"]["labels"].get(NODE_TYPE) == node_type
    ]
    return sorted(found, key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]))


def head(pods: Iterable[Object], cluster: str) -> HeadSeen | None:
    """The head pod; if there are two, the one that is not being deleted."""
    found = sorted(pods_of(pods, cluster, "head"), key=lambda p: "deletionTimestamp" in p["metadata"])
    if not found:
        return None
    pod = found[0]
    return HeadSeen(**_common(pod), running=pod_problems.running(pod), ready=pod_problems.ready(pod))


def workers(pods: Iterable[Object], cluster: str) -> tuple[WorkerSeen, ...]:
    """All worker pods of the cluster."""
    return tuple(
        WorkerSeen(**_common(pod), ready=pod_problems.ready(pod), head_patience_s=_number(_variables(pod).get(HEAD_PATIENCE)))
        for pod in pods_of(pods, cluster, "worker")
    )


def endpoints(slices: Iterable[Object]) -> tuple[str, ...]:
    """Names of the pods that are ready endpoints of a Service."""
    found = (e for s in slices for e in s.get("endpoints") or () if e.get("conditions", {}).get("ready"))
    return tuple(sorted({(e.get("targetRef") or {}).get("name") or e["addresses"][0] for e in found}))


def gcs_storage(pods: Iterable[Object], cluster: str) -> bool | None:
    """Whether the head keeps its state in Redis, by the head pod's environment; None: there is no head pod."""
    found = pods_of(pods, cluster, "head")
    if not found:
        return None
    names = {e["name"] for c in found[-1]["spec"]["containers"] for e in c.get("env") or ()}
    return "RAY_REDIS_ADDRESS" in names


def token_secret(pod: Object) -> tuple[str, str] | None:
    """Name and key of the Secret with Ray's own token, by the environment of a pod; None: it has none."""
    entries = [entry for container in pod["spec"]["containers"] for entry in container.get("env") or () if entry["name"] == TOKEN]
    references = [reference for entry in entries if (reference := (entry.get("valueFrom") or {}).get("secretKeyRef"))]
    return next(((str(found["name"]), str(found["key"])) for found in references), None)


def address_stays(services: Sequence[Object]) -> bool | None:
    """Whether the head's Service has an address of its own; None: there is no such Service."""
    return services[0]["spec"].get("clusterIP") != "None" if services else None


def applications_seen(serve: Object, pods: Sequence[Object]) -> dict[str, Any]:
    """The applications, and what runs them, as the fields of a snapshot."""
    return {
        "app_status": app_status(serve),
        "deployments": deployments(serve),
        "replicas": replicas(serve, pods),
        "controller": controller(serve, pods),
        "proxies": proxies(serve, pods),
    }


def app_status(serve: Object) -> str:
    """Status of the applications: RUNNING if all are, else the status of the first other one; NOT_STARTED: there is none."""
    statuses = [str(a["status"]) for a in serve.get("applications", {}).values()]
    return next((s for s in statuses if s != "RUNNING"), "RUNNING") if statuses else "NOT_STARTED"


def deployments(serve: Object) -> tuple[DeploymentSeen, ...]:
    """The deployments of all applications."""
    return tuple(_deployment(d) for d in _deployments(serve))


def _deployment(found: Object) -> DeploymentSeen:
    config = found.get("deployment_config") or {}
    ongoing, grace = config.get("max_ongoing_requests"), config.get("graceful_shutdown_timeout_s")
    return DeploymentSeen(
        name=found["name"],
        status=str(found["status"]),
        max_ongoing=ongoing if isinstance(ongoing, int) else None,
        grace_s=grace if isinstance(grace, int | float) else None,
    )


def replicas(serve: Object, pods: Sequence[Object]) -> tuple[ReplicaSeen, ...]:
    """The replicas of all deployments, each with the pod that has the replica's IP address."""
    by_address = _by_address(pods)
    return tuple(_replica(r, d["name"], by_address.get(r.get("node_ip", ""))) for d in _deployments(serve) for r in d.get("replicas") or ())


def controller(serve: Object, pods: Sequence[Object]) -> ActorSeen | None:
    """The Serve controller, with its pod; None: Ray does not list it."""
    found = serve.get("controller_info") or {}
    return _actor(found, pods) if found.get("actor_id") else None


def proxies(serve: Object, pods: Sequence[Object]) -> tuple[ActorSeen, ...] | None:
    """The Serve proxies, each with its pod; None: Ray does not list them."""
    found = serve.get("proxies")
    return None if found is None else tuple(_actor(proxy, pods) for proxy in found.values() if proxy.get("actor_id"))


def _actor(actor: Object, pods: Sequence[Object]) -> ActorSeen:
    pod = _by_address(pods).get(actor.get("node_ip") or "")
    return ActorSeen(
        actor_id=str(actor["actor_id"]),
        worker_id=str(actor.get("worker_id") or ""),
        status=str(actor.get("status") or ""),
        pod=pod["metadata"]["name"] if pod else None,
    )


def _by_address(pods: Iterable[Object]) -> dict[str, Object]:
    return {p["status"]["podIP"]: p for p in pods if p.get("status", {}).get("podIP")}


def _replica(replica: Object, deployment: str, pod: Object | None) -> ReplicaSeen:
    return ReplicaSeen(
        actor_id=str(replica.get("actor_id") or replica.get("replica_id") or ""),
        deployment=deployment,
        state=str(replica.get("state", "")),
        pod=pod["metadata"]["name"] if pod else None,
        node=pod["spec"].get("nodeName") if pod else replica.get("node_id"),
    )


def _deployments(serve: Object) -> list[Object]:
    """All deployments; one whose name is used in several applications is called application/deployment."""
    found = [(app, name, d) for app, a in serve.get("applications", {}).items() for name, d in (a.get("deployments") or {}).items()]
    names = Counter(name for _, name, _ in found)
    return [{**d, "name": name if names[name] == 1 else f"{app}/{name}"} for app, name, d in found]


def _common(pod: Object) -> dict[str, Any]:
    metadata = pod["metadata"]
    return {
        "pod": metadata["name"],
        "uid": metadata["uid"],
        "restarts": pod_problems.restarts(pod),
        "container": pod_problems.container_id(pod),
        "node": pod["spec"].get("nodeName"),
        "grace_s": pod["spec"].get("terminationGracePeriodSeconds"),
    }


def _variables(pod: Object) -> dict[str, Any]:
    """The environment of the Ray container, as far as it stands in the pod."""
    return {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0].get("env") or ()}


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
