"""EKS access entries and access policies: which IAM principal is which Kubernetes user, in which groups.

For each access policy there is a Kubernetes group (one per namespace, if the policy's scope is namespaces), which the
machine binds to the ClusterRole with the same rights. AWS authorises outside RBAC; the effect on requests is the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import uuid4

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow

from localcloud import settings
from localcloud.aws import current_machine, moto_lock
from localcloud.aws.auth import credentials
from localcloud.aws.eks.models import EksBase, EksCluster, Shape, arn, in_use, invalid, not_found, not_now
from localcloud.machine.interface import MachineError

POLICY_ARN = "arn:aws:eks::aws:cluster-access-policy/"
CLUSTER_ADMIN = "AmazonEKSClusterAdminPolicy"
CLUSTER_ROLES = {
    CLUSTER_ADMIN: "cluster-admin",
    "AmazonEKSAdminPolicy": "admin",
    "AmazonEKSEditPolicy": "edit",
    "AmazonEKSViewPolicy": "view",
}
"""The supported policies, and Kubernetes' own ClusterRole with the same rights."""
GROUP_PREFIX = "leeward:"
_RESERVED_GROUPS = ("system:", "eks:", "aws:", "amazon:", "iam:", GROUP_PREFIX)


@dataclass(frozen=True)
class Subject:
    """The Kubernetes user of an IAM principal."""

    username: str
    groups: tuple[str, ...]


def group_of(policy: str, namespace: str | None) -> str:
    """Return the Kubernetes group that stands for an access policy, in a namespace or everywhere."""
    return f"{GROUP_PREFIX}{policy}" + (f":{namespace}" if namespace else "")


def subject(cluster: EksCluster, principal_arn: str, session_name: str | None) -> Subject | None:
    """Return the Kubernetes user of an IAM principal; None when the cluster has no entry for it."""
    entry = cluster.access_entries.get(principal_arn)
    if entry is not None and entry["type"] == "STANDARD":
        # A copy: token reviews run beside AWS requests, and one of those may add a policy.
        groups = [*entry["kubernetesGroups"], *(g for p in list(entry["policies"].values()) for g, _, _ in _bindings(p))]
        return Subject(_expand(entry["username"], session_name), tuple(groups))
    if entry is None and principal_arn == cluster.creator:
        return Subject(_expand(_default_username(principal_arn), session_name), (group_of(CLUSTER_ADMIN, None),))
    return None


def make_creator_admin(cluster: EksCluster, creator: str) -> None:
    """Make the cluster's creator its admin: by an access entry, or by `EksCluster.creator` when it has none. Raises MachineError."""
    current_machine.machine().bind_access_policy(cluster.name, group_of(CLUSTER_ADMIN, None), CLUSTER_ROLES[CLUSTER_ADMIN], None)
    if cluster.access_config["authenticationMode"] == "CONFIG_MAP":
        cluster.creator = creator
        return
    with moto_lock.MOTO_LOCK:
        entry = cluster.access_entries.setdefault(creator, new_entry(cluster, creator, {}))
        entry["policies"][POLICY_ARN + CLUSTER_ADMIN] = _association(POLICY_ARN + CLUSTER_ADMIN, {"type": "cluster"})


def new_entry(cluster: EksCluster, principal_arn: str, wanted: Shape) -> Shape:
    """Return a new access entry, which the cluster does not have yet."""
    kind = wanted.get("type") or "STANDARD"
    standard = kind == "STANDARD"
    now, (resource, name) = utcnow(), _resource(principal_arn)
    return {
        "clusterName": cluster.name,
        "principalArn": principal_arn,
        "kubernetesGroups": (wanted.get("kubernetesGroups") or []) if standard else ["system:nodes"],
        "username": (wanted.get("username") or _default_username(principal_arn)) if standard else "system:node:{{EC2PrivateDNSName}}",
        "type": kind,
        "accessEntryArn": arn("access-entry", cluster.name, resource, settings.ACCOUNT, name, str(uuid4())),
        "createdAt": now,
        "modifiedAt": now,
        "tags": wanted.get("tags") or {},
        "policies": {},
    }


class AccessEntries(EksBase):
    """Access entries of a cluster, and the access policies associated with them."""

    def create_access_entry(self) -> ActionResult:
        """Create an entry for a principal, which must exist."""
        cluster, wanted = self._cluster_with_entries(), self._json()
        principal = wanted["principalArn"]
        if principal in cluster.access_entries:
            raise in_use("The specified access entry resource is already in use on this cluster.", cluster.name)
        if not _principal_exists(principal):
            raise invalid("The specified principalArn is invalid: invalid principal.", cluster.name)
        _check_groups(cluster, wanted)
        cluster.access_entries[principal] = new_entry(cluster, principal, wanted)
        return ActionResult({"accessEntry": cluster.access_entries[principal]})

    def describe_access_entry(self) -> ActionResult:
        """Describe one access entry of a cluster."""
        return ActionResult({"accessEntry": self._entry()[1]})

    def update_access_entry(self) -> ActionResult:
        """Set the entry's groups and user name; what is not given stays."""
        cluster, entry = self._entry()
        wanted = self._json()
        _check_groups(cluster, wanted)
        entry.update({key: wanted[key] for key in ("kubernetesGroups", "username") if key in wanted}, modifiedAt=utcnow())
        return ActionResult({"accessEntry": entry})

    def delete_access_entry(self) -> ActionResult:
        """Delete the entry: the cluster refuses the principal from now on."""
        cluster, entry = self._entry()
        cluster.access_entries.pop(entry["principalArn"], None)
        return EmptyResult()

    def list_access_entries(self) -> ActionResult:
        """List the principals, all or those with a policy."""
        policy = self._query("associatedPolicyArn")
        entries = self._cluster().access_entries
        return ActionResult({"accessEntries": sorted(a for a, e in entries.items() if not policy or policy[0] in e["policies"])})

    def associate_access_policy(self) -> ActionResult:
        """Give the principal a policy in a scope, and let the machine bind it in the cluster."""
        cluster, entry = self._entry()
        wanted = self._json()
        policy = wanted["policyArn"].removeprefix(POLICY_ARN)
        if policy not in CLUSTER_ROLES:
            raise invalid(f"The policyArn {wanted['policyArn']} is not supported here: use one of {', '.join(CLUSTER_ROLES)}", cluster.name)
        association = _association(wanted["policyArn"], wanted["accessScope"])
        try:
            for group, role, namespace in _bindings(association):
                current_machine.machine().bind_access_policy(cluster.name, group, role, namespace)
        except MachineError as error:
            raise not_now(f"The access policy could not be bound: {error}", cluster.name) from error
        entry["policies"][wanted["policyArn"]] = association
        return ActionResult({"clusterName": cluster.name, "principalArn": entry["principalArn"], "associatedAccessPolicy": association})

    def disassociate_access_policy(self) -> ActionResult:
        """Take the policy from the principal. The group's binding stays in the cluster, where the group has one member less."""
        cluster, entry = self._entry()
        if entry["policies"].pop(self._path("policyArn"), None) is None:
            raise not_found("The specified access policy association could not be found.", cluster.name)
        return EmptyResult()

    def list_associated_access_policies(self) -> ActionResult:
        """List the principal's policies."""
        cluster, entry = self._entry()
        policies = list(entry["policies"].values())
        return ActionResult({"clusterName": cluster.name, "principalArn": entry["principalArn"], "associatedAccessPolicies": policies})

    def list_access_policies(self) -> ActionResult:
        """List the supported policies."""
        return ActionResult({"accessPolicies": [{"name": name, "arn": POLICY_ARN + name} for name in CLUSTER_ROLES]})

    def _cluster_with_entries(self) -> EksCluster:
        cluster = self._cluster()
        if cluster.access_config["authenticationMode"] == "CONFIG_MAP":
            raise not_now("The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP].", cluster.name)
        return cluster

    def _entry(self) -> tuple[EksCluster, Shape]:
        cluster = self._cluster_with_entries()
        return cluster, self._part(cluster.access_entries, self._path("principalArn"), "The access entry of principal")


def _association(policy_arn: str, scope: Shape) -> Shape:
    now = utcnow()
    return {"policyArn": policy_arn, "accessScope": {"namespaces": [], **scope}, "associatedAt": now, "modifiedAt": now}


def _bindings(association: Shape) -> list[tuple[str, str, str | None]]:
    """Return group, ClusterRole and namespace of each binding that the association needs."""
    policy = association["policyArn"].removeprefix(POLICY_ARN)
    scope = association["accessScope"]
    namespaces: list[str | None] = [None] if scope["type"] == "cluster" else scope["namespaces"]
    return [(group_of(policy, namespace), CLUSTER_ROLES[policy], namespace) for namespace in namespaces]


def _check_groups(cluster: EksCluster, wanted: Shape) -> None:
    for group in wanted.get("kubernetesGroups") or []:
        if group.startswith(_RESERVED_GROUPS):
            raise invalid(f"The kubernetes group name {group} is invalid, it cannot start with one of {_RESERVED_GROUPS}", cluster.name)


def _principal_exists(principal: str) -> bool:
    iam = credentials.iam()
    return principal in {role.arn for role in iam.get_roles()} | {user.arn for user in iam.users.values()}


def _resource(principal_arn: str) -> tuple[str, str]:
    kind, _, path = principal_arn.split(":", 5)[5].partition("/")
    return kind, path.rpartition("/")[2]


def _default_username(principal_arn: str) -> str:
    kind, name = _resource(principal_arn)
    return f"arn:aws:sts::{settings.ACCOUNT}:assumed-role/{name}/{{{{SessionName}}}}" if kind == "role" else principal_arn


def _expand(username: str, session_name: str | None) -> str:
    session = session_name or ""
    values = {"AccountID": settings.ACCOUNT, "SessionName": session.replace("@", "-"), "SessionNameRaw": session}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values.get(match[1], ""), username)
