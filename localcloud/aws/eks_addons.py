"""EKS add-ons: in the books, and installed by the machine where they have a workload."""

from __future__ import annotations

from uuid import uuid4

from moto.core.responses import ActionResult
from moto.core.utils import utcnow

from localcloud import settings
from localcloud.aws import background, eks_podidentity, seam, ssm
from localcloud.aws.eks_base import EksBase
from localcloud.aws.eks_records import EksCluster, Shape, arn, in_use, invalid, issue, new_update
from localcloud.machine import MachineError

VERSIONS = {
    "coredns": (settings.COREDNS_IMAGE.rpartition(":")[2], "v1.12.4-eksbuild.1"),
    "eks-pod-identity-agent": ("v1.3.10-eksbuild.2", "v1.3.9-eksbuild.3"),
    "kube-proxy": (f"v{ssm.MINOR}.3-eksbuild.2", f"v{ssm.MINOR}.0-eksbuild.2"),
    "vpc-cni": ("v1.21.1-eksbuild.1", "v1.20.4-eksbuild.2"),
}
"""The add-ons there are, and their versions, newest first, which is the default. Names only: the machine has one of each."""


class Addons(EksBase):
    """Add-ons."""

    def create_addon(self) -> ActionResult:
        """CREATING until its workload runs; CREATE_FAILED with the machine's reason when it cannot."""
        cluster, wanted = self._cluster(), self._json()
        name = wanted["addonName"]
        if name in cluster.addons:
            raise in_use("Addon already exists.", cluster.name, addonName=name)
        _check_version(name, wanted.get("addonVersion"))
        addon = _new_addon(cluster, wanted)
        eks_podidentity.set_for_addon(cluster, addon, wanted.get("podIdentityAssociations") or [])
        cluster.addons[name] = addon
        background.start(f"add-on {name}", lambda: _install(cluster, addon))
        return ActionResult({"addon": addon})

    def describe_addon(self) -> ActionResult:
        """The add-on."""
        return ActionResult({"addon": self._addon()[1]})

    def list_addons(self) -> ActionResult:
        """Names of the cluster's add-ons."""
        return ActionResult({"addons": sorted(self._cluster().addons)})

    def update_addon(self) -> ActionResult:
        """The books have what is given; the workload is the same in every version."""
        cluster, addon = self._addon()
        wanted = self._json()
        _check_version(addon["addonName"], wanted.get("addonVersion"))
        if "podIdentityAssociations" in wanted:
            eks_podidentity.set_for_addon(cluster, addon, wanted["podIdentityAssociations"] or [])
        keys = ("addonVersion", "serviceAccountRoleArn", "configurationValues")
        addon.update({key: wanted[key] for key in keys if key in wanted}, modifiedAt=utcnow())
        return ActionResult({"update": new_update(cluster, "AddonUpdate", {key: wanted[key] for key in keys if key in wanted})})

    def delete_addon(self) -> ActionResult:
        """DELETING until its workload is gone, or at once with `preserve`."""
        cluster, addon = self._addon()
        addon["status"] = "DELETING"
        preserve = self._query("preserve") == ["true"]
        background.start(f"delete add-on {addon['addonName']}", lambda: _remove(cluster, addon, preserve))
        return ActionResult({"addon": addon})

    def describe_addon_versions(self) -> ActionResult:
        """Versions for the machine's Kubernetes, all or of one add-on."""
        wanted, kubernetes = self._query("addonName"), self._query("kubernetesVersion")
        names = [name for name in VERSIONS if not wanted or name == wanted[0]]
        if kubernetes and kubernetes[0] != ssm.MINOR:
            names = []
        return ActionResult({"addons": [_versions_of(name) for name in names]})

    def describe_addon_configuration(self) -> ActionResult:
        """A schema that takes anything: no configuration has an effect."""
        name, version = self._query("addonName"), self._query("addonVersion")
        return ActionResult({"addonName": name[0], "addonVersion": version[0], "configurationSchema": "{}"})

    def _addon(self) -> tuple[EksCluster, Shape]:
        cluster = self._cluster()
        return cluster, self._part(cluster.addons, self._path("addonName"), "Addon")


def _check_version(name: str, version: str | None) -> None:
    if name not in VERSIONS:
        raise invalid(f"Addon {name} specified is not supported in {ssm.MINOR} kubernetes version: there is {', '.join(VERSIONS)}")
    if version is not None and version not in VERSIONS[name]:
        raise invalid(f"Addon version specified is not supported: {name} has {', '.join(VERSIONS[name])}", addonName=name)


def _new_addon(cluster: EksCluster, wanted: Shape) -> Shape:
    name, now = wanted["addonName"], utcnow()
    return {
        "addonName": name,
        "clusterName": cluster.name,
        "status": "CREATING",
        "addonVersion": wanted.get("addonVersion") or VERSIONS[name][0],
        "health": {"issues": []},
        "addonArn": arn("addon", cluster.name, name, str(uuid4())),
        "createdAt": now,
        "modifiedAt": now,
        "serviceAccountRoleArn": wanted.get("serviceAccountRoleArn"),
        "configurationValues": wanted.get("configurationValues"),
        "tags": wanted.get("tags") or {},
    }


def _install(cluster: EksCluster, addon: Shape) -> None:
    try:
        seam.machine().install_addon(cluster.name, addon["addonName"])
    except MachineError as error:
        addon["health"] = {"issues": [issue("InternalFailure", str(error), addon["addonName"])]}
    if addon["status"] == "CREATING":
        addon["status"] = "CREATE_FAILED" if addon["health"]["issues"] else "ACTIVE"


def _remove(cluster: EksCluster, addon: Shape, preserve: bool) -> None:
    try:
        if not preserve:
            seam.machine().remove_addon(cluster.name, addon["addonName"])
    except MachineError as error:
        addon["health"] = {"issues": [issue("InternalFailure", str(error), addon["addonName"])]}
        addon["status"] = "DELETE_FAILED"
        return
    eks_podidentity.set_for_addon(cluster, addon, [])
    cluster.addons.pop(addon["addonName"], None)


def _versions_of(name: str) -> Shape:
    versions = [
        {
            "addonVersion": version,
            "architecture": ["amd64", "arm64"],
            "computeTypes": ["ec2"],
            "compatibilities": [
                {"clusterVersion": ssm.MINOR, "platformVersions": ["*"], "defaultVersion": version == VERSIONS[name][0]},
            ],
            "requiresConfiguration": False,
            "requiresIamPermissions": name == "vpc-cni",
        }
        for version in VERSIONS[name]
    ]
    return {"addonName": name, "type": "networking", "publisher": "eks", "owner": "aws", "addonVersions": versions}
