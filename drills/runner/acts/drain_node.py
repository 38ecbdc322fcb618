"""A node is cordoned, and the pods of the service on it are evicted: other pods of the node are not touched."""

from __future__ import annotations

import time

from drills.faults import DrainNode
from drills.kubernetes.api import Api, Conflict, EvictionBlocked
from drills.kubernetes.rights import Rule
from drills.observed import Snapshot
from drills.runner.acts.act import Act, NothingToBreak, find_pod, find_same, pod_path
from drills.runner.waiting import Pending, Until
from drills.strikes import Strike, Target
from drills.subject import Subject

CORDONED = "leeward/cordoned"
"""Annotation of a node that a drill has cordoned: only such a node is uncordoned."""
EVICT_WITHIN_S = 40.0
"""Seconds to wait for a PodDisruptionBudget that allows no eviction yet."""


def find(api: Api, subject: Subject, fault: DrainNode, before: Snapshot | None) -> Strike:
    """Return the node of the head or of the worker as the target, with the pods of the service on it."""
    pod, now = find_pod(api, subject, fault.of, fault.which, before)
    if not pod.node:
        raise NothingToBreak(f"pod {pod.pod} is on no node yet")
    node = api.get(_path(pod.node))
    if node.get("spec", {}).get("unschedulable"):
        raise NothingToBreak(f"node {pod.node} is cordoned already: somebody else drains it")
    there = [one for one in now.pods if one.node == pod.node]
    target = Target(kind="node", name=pod.node, uid=node["metadata"]["uid"], node=pod.node, pods=tuple(one.uid for one in there))
    return Strike(act=fault.kind, target=target, at=time.time(), undo=f"uncordon node {pod.node}")


def strike(api: Api, subject: Subject, fault: DrainNode, planned: Strike) -> Strike:
    """Cordon the node, and evict the planned pods that are still there. A PodDisruptionBudget is respected.

    Raises:
        TimedOut: a PodDisruptionBudget does not allow it; the message names it.
    """
    at = time.time()
    _cordon(api, planned.target, cordoned=True)
    pods = api.items(f"/api/v1/namespaces/{subject.namespace}/pods", fieldSelector=f"spec.nodeName={planned.target.name}")
    left = {p["metadata"]["name"]: p["metadata"]["uid"] for p in pods if p["metadata"]["uid"] in planned.target.pods}

    def probe() -> bool | Pending:
        for name, uid in list(left.items()):
            try:
                api.evict(pod_path(subject, name), uid=uid)
            except EvictionBlocked as blocked:
                return Pending(str(blocked))
            except Conflict:
                pass  # another pod has that name now
            del left[name]
        return True

    Until(f"the eviction of pods from node {planned.target.name}", probe, EVICT_WITHIN_S, 2.0).wait()
    return planned.model_copy(update={"done": True, "at": at, "ended": time.time(), "told": f"{len(planned.target.pods)} pods evicted"})


def undo(api: Api, subject: Subject, strike: Strike) -> None:
    """Uncordon the node, if a drill has cordoned it and it is still there."""
    node = find_same(api, _path(strike.target.name), strike.target.uid)
    if node is not None and CORDONED in (node["metadata"].get("annotations") or {}):
        _cordon(api, strike.target, cordoned=False)


def _cordon(api: Api, target: Target, *, cordoned: bool) -> None:
    """Cordon or uncordon the node with that UID."""
    mark = {CORDONED: "by a drill" if cordoned else None}
    api.merge(_path(target.name), {"metadata": {"uid": target.uid, "annotations": mark}, "spec": {"unschedulable": cordoned or None}})


def _path(node: str) -> str:
    return f"/api/v1/nodes/{node}"


ACT = Act(find, strike, needs=(Rule("pods/eviction", ("create",)), Rule("nodes", ("get", "patch"), cluster=True)), undo=undo)
