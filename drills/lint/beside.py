"""What stands beside a RayService in the same text: PodDisruptionBudgets for its pods, and the Redis that keeps the GCS's state."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from drills.lint.living import LOOPBACK, Group, Living, Object, service_of, storage_hosts
from drills.lint.rules import covers, wanted
from drills.lint.texts import number
from drills.runner.ray_objects import CLUSTER, NODE_TYPE

SERVE = "ray.io/serve"
_VOLUMES = "volumeClaimTemplates"


def beside(living: Living, written: Sequence[Object]) -> Living:
    """Return the service with what else is written for it. What is not there may be elsewhere, and is as if it was not read."""
    about = living.ray_service["metadata"]
    near = [thing for thing in written if _place(thing) in ("", str(about.get("namespace") or "")) or not about.get("namespace")]
    written_budgets = [thing for thing in near if thing.get("kind") == "PodDisruptionBudget"]
    planned = tuple(_planned(living, written_budgets))
    budgets = tuple(b for b in written_budgets if any(wanted(b, "ray.io/")) or any(covers(b, pod) for pod in planned))
    redis = _redis(living, written, planned)
    return dataclasses.replace(living, planned=planned, budgets=budgets or None, redis=redis)


def _place(thing: Object) -> str:
    return str((thing.get("metadata") or {}).get("namespace") or "")


def _planned(living: Living, budgets: Sequence[Object]) -> Iterator[Object]:
    """Yield the pods as KubeRay would make them, with its labels. It names the cluster after the service and at random: a budget that has
    such a name means this one."""
    prefix = f"{living.ray_service['metadata']['name']}-"
    ours = re.compile(re.escape(prefix) + r"(raycluster-)?[a-z0-9]{5}")
    named = [value for budget in budgets for _, value in wanted(budget, CLUSTER) if ours.fullmatch(value)]
    cluster = named[0] if named else f"{prefix}…"
    yield _pod(living.head, cluster, {NODE_TYPE: "head", "ray.io/group": "headgroup", SERVE: "false"})
    for group in living.workers:
        hosts = max(1, group.fewest(scaled=False)) * int(number(group.spec.get("numOfHosts") or 1))
        for _ in range(min(hosts, 1000)):
            yield _pod(group, cluster, {NODE_TYPE: "worker", "ray.io/group": group.name, SERVE: "true"})


def _pod(group: Group, cluster: str, labels: Mapping[str, str]) -> Object:
    own = (group.spec["template"].get("metadata") or {}).get("labels") or {}
    always = {
        "ray.io/is-ray-node": "yes",
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
        **own,
        CLUSTER: cluster,
        **labels,
    }
    return {"metadata": {"name": group.name, "labels": always}, "spec": group.template}


def _redis(living: Living, written: Sequence[Object], planned: Sequence[Object]) -> tuple[Object, ...] | None:
    """Return the pods at the address of the GCS's storage; None where they are not written here."""
    found: list[Object] = []
    home = _place(living.ray_service)
    for host in storage_hosts(living):
        if host in LOOPBACK:
            found.append(planned[0])
        elif place := service_of(host, home):
            pods = [pod for service in written if _is(service, *place, home) for pod in _behind(service, written, place[0], home)]
            if not pods:
                return None
            found += pods
    return tuple(found)


def _is(thing: Object, namespace: str, name: str, home: str) -> bool:
    return thing.get("kind") == "Service" and thing["metadata"]["name"] == name and (_place(thing) or home) == namespace


def _behind(service: Object, written: Sequence[Object], namespace: str, home: str) -> Iterator[Object]:
    """Yield the pods of the workloads that a Service selects."""
    selector = service["spec"].get("selector") or {}
    for thing in written:
        if thing.get("kind") not in ("Deployment", "StatefulSet") or (_place(thing) or home) != namespace:
            continue
        template = thing["spec"]["template"]
        labels = (template.get("metadata") or {}).get("labels") or {}
        if selector and all(labels.get(key) == value for key, value in selector.items()):
            claims = [{"name": "claim", "persistentVolumeClaim": {}} for _ in thing["spec"].get(_VOLUMES) or ()]
            spec = {**template["spec"], "volumes": [*(template["spec"].get("volumes") or ()), *claims]}
            for _ in range(min(int(number(thing["spec"].get("replicas", 1))), 10)):
                yield {"metadata": {"name": f"{thing['kind']} {thing['metadata']['name']}"}, "spec": spec}
