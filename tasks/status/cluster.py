"""Questions to a cluster about a stack: its service, what a drill has there, and its nodes."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

from blocks.parameters import Service
from drills.kubernetes import node_labels, pod_problems
from drills.kubernetes.api import Api, Object, conditions
from drills.runner import journal, ray_objects
from drills.runner.journal import Lock
from drills.subject import HOME
from tasks.cluster.karpenter import CLAIMS
from tasks.status.questions import Question, StatusRow


def questions(api: Api, service: Service) -> list[Question]:
    """All questions about a service and its cluster."""
    name = f"{service.namespace}/{service.name}"
    return [
        Question("RayService", name, lambda: _ray_service(api, service)),
        Question("pod", service.namespace, lambda: _ray_pods(api, service)),
        Question("load", HOME, lambda: _loads(api)),
        Question("drill lock", name, lambda: _lock(api, service)),
        Question("drill journal", name, lambda: _journal(api, service)),
        Question("nodes", "of all pools", lambda: _by_pool(api)),
        Question("NodeClaim", "of Karpenter", lambda: _claims(api)),
    ]


def _ray_service(api: Api, service: Service) -> list[StatusRow]:
    found = api.find(f"/apis/ray.io/v1/namespaces/{service.namespace}/rayservices/{service.name}")
    if found is None:
        return []
    holds = conditions(found)
    states = ["ready" if holds.get("Ready") else "not ready", *(kind for kind, true in holds.items() if true and kind != "Ready")]
    return [StatusRow("RayService", f"{service.namespace}/{service.name}", ", ".join([*states, *_ending(found)]))]


def _ray_pods(api: Api, service: Service) -> list[StatusRow]:
    pods = api.items(f"/api/v1/namespaces/{service.namespace}/pods", labelSelector=ray_objects.NODE_TYPE)
    rows = [StatusRow(f"{pod['metadata']['labels'][ray_objects.NODE_TYPE]} pod", pod["metadata"]["name"], _pod(pod)) for pod in pods]
    return sorted(rows, key=lambda row: (row.kind, row.name))


def _pod(pod: Object) -> str:
    where = f" on {pod['spec']['nodeName']}" if pod.get("spec", {}).get("nodeName") else ""
    return (pod_problems.trouble(pod) or ("ready" if pod_problems.ready(pod) else "has ended")) + where


def _loads(api: Api) -> list[StatusRow]:
    jobs = api.items(f"/apis/batch/v1/namespaces/{HOME}/jobs")
    return [StatusRow("load", job["metadata"]["name"], ", ".join([_job(job), *_ending(job)])) for job in jobs]


def _job(job: Object) -> str:
    status = job.get("status", {})
    return next((f"{status[key]} {key}" for key in ("active", "failed", "succeeded") if status.get(key)), "not begun")


def _lock(api: Api, service: Service) -> list[StatusRow]:
    holder, since = Lock(api, service.subject, "").held()
    when = f" since {_clock(since)}" if since else ""
    return [StatusRow("drill lock", f"{service.namespace}/{service.name}", f"held by run {holder}{when}")] if holder else []


def _journal(api: Api, service: Service) -> list[StatusRow]:
    found = journal.read(api, service.subject)
    if found is None or found.state != "open":
        return []
    fault = f"fault {'done' if found.fault.done else 'about to be done'} to {found.fault.target}" if found.fault else "nothing broken yet"
    fault += f" (fault {len(found.faults)} of a series)" if len(found.faults) > 1 else ""
    began = _clock(datetime.fromtimestamp(found.started, UTC))
    return [StatusRow("drill journal", found.drill, f"open, of run {found.owner} since {began}; {fault}")]


def _by_pool(api: Api) -> list[StatusRow]:
    pools: dict[str, list[Object]] = defaultdict(list)
    for node in api.items(node_labels.NODES):
        pools[node_labels.pool(node) or "no pool"].append(node)
    counts = ((pool, len(nodes), sum(map(node_labels.ready, nodes))) for pool, nodes in sorted(pools.items()))
    return [StatusRow("nodes", pool, f"{all_of_it}, of which {ready} ready") for pool, all_of_it, ready in counts]


def _claims(api: Api) -> list[StatusRow]:
    return [StatusRow("NodeClaim", claim["metadata"]["name"], ", ".join([_claim(claim), *_ending(claim)])) for claim in api.items(CLAIMS)]


def _claim(claim: Object) -> str:
    node = claim.get("status", {}).get("nodeName")
    holds = conditions(claim)
    how = "ready" if holds.get("Ready") else f"not ready, {next((f'not {kind}' for kind, true in holds.items() if not true), '')}"
    return how.rstrip(", ") + (f", node {node}" if node else "")


def _ending(obj: Object) -> list[str]:
    return ["being deleted"] if "deletionTimestamp" in obj["metadata"] else []


def _clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
