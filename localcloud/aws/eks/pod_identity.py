"""The API of EKS pod identity associations: which service account has which role. `pod_credentials.py` issues the credentials."""

from __future__ import annotations

from moto.core.responses import ActionResult
from moto.core.utils import utcnow

from localcloud.aws.auth.credentials import random_secret
from localcloud.aws.eks.models import EksBase, EksCluster, Shape, arn, in_use

ADDON_NAMESPACE = "kube-system"


class PodIdentityAssociations(EksBase):
    """Create, describe, update, list and delete pod identity associations."""

    def create_pod_identity_association(self) -> ActionResult:
        """Create an association; a service account has at most one."""
        return ActionResult({"association": _new(self._cluster(), self._json())})

    def describe_pod_identity_association(self) -> ActionResult:
        """Describe one association of a cluster."""
        return ActionResult({"association": self._association()[1]})

    def update_pod_identity_association(self) -> ActionResult:
        """Change the association's roles; what is not given stays."""
        _, association = self._association()
        wanted = self._json()
        keys = ("roleArn", "disableSessionTags", "targetRoleArn")
        association.update({key: wanted[key] for key in keys if key in wanted}, modifiedAt=utcnow())
        return ActionResult({"association": association})

    def delete_pod_identity_association(self) -> ActionResult:
        """Delete one association of a cluster."""
        cluster, association = self._association()
        cluster.pod_identities.pop(association["associationId"], None)
        return ActionResult({"association": association})

    def list_pod_identity_associations(self) -> ActionResult:
        """List associations, all or those of a namespace or service account."""
        found = list(self._cluster().pod_identities.values())
        for key in ("namespace", "serviceAccount"):
            wanted = self._query(key)
            found = [a for a in found if not wanted or a[key] == wanted[0]]
        return ActionResult({"associations": found})

    def _association(self) -> tuple[EksCluster, Shape]:
        cluster = self._cluster()
        return cluster, self._part(cluster.pod_identities, self._path("associationId"), "Association")


def find_association(cluster: EksCluster, namespace: str, service_account: str) -> Shape | None:
    """Return the service account's association; None when it has none."""
    account = (namespace, service_account)
    return next((a for a in list(cluster.pod_identities.values()) if (a["namespace"], a["serviceAccount"]) == account), None)


def set_for_addon(cluster: EksCluster, addon: Shape, wanted: list[Shape]) -> None:
    """Replace the add-on's associations by these."""
    for old in addon.get("podIdentityAssociations") or []:
        cluster.pod_identities.pop(old.rpartition("/")[2], None)
    made = [_new(cluster, {"namespace": ADDON_NAMESPACE} | each, addon["addonArn"]) for each in wanted]
    addon["podIdentityAssociations"] = [association["associationArn"] for association in made]


def _new(cluster: EksCluster, wanted: Shape, owner: str | None = None) -> Shape:
    if other := find_association(cluster, wanted["namespace"], wanted["serviceAccount"]):
        raise in_use(f"Association already exists: {other['associationId']}", cluster.name)
    now, association_id = utcnow(), f"a-{random_secret(17).lower()}"
    association = {
        "clusterName": cluster.name,
        "namespace": wanted["namespace"],
        "serviceAccount": wanted["serviceAccount"],
        "roleArn": wanted["roleArn"],
        "associationId": association_id,
        "associationArn": arn("podidentityassociation", cluster.name, association_id),
        "tags": wanted.get("tags") or {},
        "createdAt": now,
        "modifiedAt": now,
        "ownerArn": owner,
        "disableSessionTags": wanted.get("disableSessionTags", False),
        "targetRoleArn": wanted.get("targetRoleArn"),
    }
    cluster.pod_identities[association_id] = association
    return association
