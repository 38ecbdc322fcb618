"""Why pods are not ready, as sentences that a person can act on."""

from __future__ import annotations

from collections.abc import Iterable

from drills.kubernetes.api import Object


def ready(pod: Object) -> bool:
    """Whether the pod has the condition Ready and is not being deleted."""
    return "deletionTimestamp" not in pod["metadata"] and _condition(pod, "Ready").get("status") == "True"


def running(pod: Object) -> bool:
    """Whether the pod is in phase Running and is not being deleted."""
    return "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") == "Running"


def rolled_out(deployment: Object) -> bool:
    """Whether all pods of a Deployment have its newest specification and are available."""
    status = deployment.get("status", {})
    observed = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    there = status.get("updatedReplicas") and status.get("availableReplicas") and not status.get("unavailableReplicas")
    return bool(observed and there)


def restarts(pod: Object) -> int:
    """Restarts of the Ray container: the first of the pod's specification. Statuses are sorted by name, and KubeRay adds containers."""
    return int(_ray_container(pod).get("restartCount", 0))


def container_id(pod: Object) -> str | None:
    """Id of the Ray container that runs; None: none does."""
    status = _ray_container(pod)
    return str(status["containerID"]) if status.get("containerID") and "running" in (status.get("state") or {}) else None


def _ray_container(pod: Object) -> Object:
    """The status of the Ray container; empty: there is none yet."""
    first = ((pod.get("spec") or {}).get("containers") or [{}])[0].get("name")
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((s for s in statuses if first in (None, s.get("name"))), {})


def troubles(pods: Iterable[Object]) -> list[str]:
    """One sentence for each pod that is not ready."""
    return [f"{pod['metadata']['name']}: {why}" for pod in pods if (why := trouble(pod))]


def trouble(pod: Object) -> str:
    """Why a pod is not ready; empty: it is ready, or has succeeded."""
    status = pod.get("status", {})
    if status.get("phase") == "Succeeded" or ready(pod):
        return ""
    if "deletionTimestamp" in pod["metadata"]:
        return "is ending"
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'not scheduled')}: {scheduled.get('message', '')}".strip()
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    reasons = [text for container in containers if (text := _container(container))]
    return "; ".join(reasons) or f"{status.get('phase', 'unknown')}, not ready"


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
