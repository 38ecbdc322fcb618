"""What is wrong with pods, in words a person can act on."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.kubernetes.api import Object


def ready(pod: Object) -> bool:
    """Condition Ready, and not being deleted."""
    return "deletionTimestamp" not in pod["metadata"] and _condition(pod, "Ready").get("status") == "True"


def running(pod: Object) -> bool:
    """Phase Running, and not being deleted."""
    return "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") == "Running"


def rolled_out(deployment: Object) -> bool:
    """All pods of a Deployment are of its newest specification and available."""
    status = deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    there = status.get("updatedReplicas") and status.get("availableReplicas") and not status.get("unavailableReplicas")
    return bool(seen and there)


def restarts(pod: Object) -> int:
    """Of its first container."""
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    return int(statuses[0].get("restartCount", 0))


def troubles(pods: Iterable[Object]) -> list[str]:
    """One sentence for each pod that is not ready."""
    return [f"{pod['metadata']['name']}: {why}" for pod in pods if (why := trouble(pod))]


def trouble(pod: Object) -> str:
    """Why a pod is not ready; empty when it is, or has ended well."""
    status = pod.get("status", {})
    if status.get("phase") == "Succeeded" or ready(pod):
        return ""
    if "deletionTimestamp" in pod["metadata"]:
        return "is ending"
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'not scheduled')}: {scheduled.get('message', '')}".strip()
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    said = [text for container in containers if (text := _container(container))]
    return "; ".join(said) or f"{status.get('phase', 'unknown')}, not ready"


def _container(status: Object) -> str:
    waiting = status.get("state", {}).get("waiting")
    ended = (status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")) or {}
    last = (
        f" (ended before: {ended.get('reason')} {ended.get('exitCode')} {_line(ended.get('message'))})".rstrip()
        if ended.get("exitCode")
        else ""
    )
    if waiting:
        return f"{waiting.get('reason', 'waiting')} {_line(waiting.get('message'))}".strip() + last
    if "running" in status.get("state", {}) and not status.get("ready"):
        return "running, not ready" + last
    return last.strip()


def _condition(pod: Object, kind: str) -> Object:
    return next((c for c in pod.get("status", {}).get("conditions") or () if c["type"] == kind), {})


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:200]
