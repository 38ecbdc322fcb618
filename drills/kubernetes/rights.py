"""The rights that a drill needs in the namespace of its service, as rules of a Role."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from drills.kubernetes.api import Api, Object


class Rule(NamedTuple):
    """Verbs on one resource."""

    resource: str
    """The resource, with its subresource: "pods/exec"."""
    verbs: tuple[str, ...]
    group: str = ""
    """API group; empty for the core group."""
    cluster: bool = False
    """Whether it is a right on the whole cluster, and not on the namespace of the service."""
    name: str = ""
    """The only object that it is a right on; empty: on all of them. A list must then ask for that name."""


EVERY_DRILL = (
    Rule("rayservices", ("get", "list"), group="ray.io"),
    Rule("pods", ("get", "list")),
    Rule("services", ("list",)),
    Rule("events", ("list",)),
    Rule("endpointslices", ("list",), group="discovery.k8s.io"),
    Rule("poddisruptionbudgets", ("list",), group="policy"),
    # Ray's dashboard, the probe, and the status and records of the load.
    Rule("services/proxy", ("get", "create", "update")),
    Rule("pods/proxy", ("get", "create")),
    Rule("pods/log", ("get",)),
    # The load, the journal and the lock.
    Rule("jobs", ("get", "list", "create", "delete"), group="batch"),
    Rule("configmaps", ("get", "create", "patch", "delete")),
    Rule("leases", ("get", "create", "update", "delete"), group="coordination.k8s.io"),
)
"""The rights of lint and of every drill, whatever it breaks; what a fault needs besides is in its act."""


def rules_for(needs: Iterable[Rule], ray_token: str | None) -> list[Rule]:
    """Return the rights of every drill and those that its faults need, one rule for each resource.

    `ray_token`: the Secret with Ray's own token, without which Ray's dashboard does not answer; None: the service has no such token.
    """
    token = (Rule("secrets", ("get",), name=ray_token),) if ray_token else ()
    found: dict[tuple[str, str, bool, str], list[str]] = {}
    for rule in (*EVERY_DRILL, *needs, *token):
        verbs = found.setdefault((rule.group, rule.resource, rule.cluster, rule.name), [])
        verbs += [verb for verb in rule.verbs if verb not in verbs]
    return [Rule(resource, tuple(verbs), group, cluster, name) for (group, resource, cluster, name), verbs in found.items()]


def role(name: str, namespace: str, rules: Sequence[Rule]) -> list[Object]:
    """Return the Role, and a ClusterRole if some rights are on the whole cluster."""
    made: list[Object] = []
    for kind, cluster in (("Role", False), ("ClusterRole", True)):
        those = [_rule(rule) for rule in rules if rule.cluster is cluster]
        if those:
            made.append(_object(kind, name, "" if cluster else namespace, rules=those))
    return made


def _rule(rule: Rule) -> Object:
    only = {"resourceNames": [rule.name]} if rule.name else {}
    return {"apiGroups": [rule.group], "resources": [rule.resource], **only, "verbs": list(rule.verbs)}


def binding(role: Object, account: str, namespace: str) -> Object:
    """Return what gives a role to a ServiceAccount of the namespace."""
    kind, name = role["kind"], role["metadata"]["name"]
    return _object(
        f"{kind}Binding",
        name,
        role["metadata"].get("namespace", ""),
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        subjects=[{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    )


def _object(kind: str, name: str, namespace: str, **parts: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, **parts}


def missing(api: Api, namespace: str, rules: Sequence[Rule]) -> list[str]:
    """Return the rights that the caller lacks, each as "verb resource"; the API server is asked for each."""
    lacking = []
    for rule in rules:
        resource, _, part = rule.resource.partition("/")
        for verb in rule.verbs:
            attributes = {"group": rule.group, "resource": resource, "subresource": part, "verb": verb}
            if not rule.cluster:
                attributes["namespace"] = namespace
            if rule.name:
                attributes["name"] = rule.name
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }
            answer = api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
            if not answer["status"]["allowed"]:
                lacking.append(f"{verb} {rule.resource}{f'.{rule.group}' if rule.group else ''} {rule.name}".rstrip())
    return lacking
