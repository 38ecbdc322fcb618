"""EKS add-ons; the machine installs those that have a workload."""

from __future__ import annotations

import time
from uuid import uuid4

from moto.core.responses import ActionResult
from moto.core.utils import utcnow

from localcloud import settings
from localcloud.aws import background, current_machine, moto_lock, ssm
from localcloud.aws.eks import models, pod_identity
from localcloud.aws.eks.models import EksBase, EksCluster, Shape, arn, end_update, in_use, invalid, issue, new_update
from localcloud.machine.interface import MachineError

VERSIONS = {
    "coredns": (settings.COREDNS_IMAGE.rpartition(":")[2], "v1.12.4-eksbuild.1"),
    "eks-pod-identity-agent": ("v1.3.10-eksbuild.2", "v1.3.9-eksbuild.3"),
    "kube-proxy": (f"v{ssm.MINOR}.3-eksbuild.2", f"v{ssm.MINOR}.0-eksbuild.2"),
    "vpc-cni": ("v1.21.1-eksbuild.1", "v1.20.4-eksbuild.2"),
}
"""The supported add-ons and their versions, the newest and default one first. They are names only: the machine has one of each."""
_RETRY_S = 15.0
"""Seconds until an add-on that does not run is tried again: the cluster's first node may join late."""
_FAILED = ("CREATE_FAILED", "UPDATE_FAILED")


class Addons(EksBase):
    """Create, describe, update and delete add-ons."""

    def create_addon(self) -> ActionResult:
        """Create an add-on: CREATING, then ACTIVE once its workload runs, or CREATE_FAILED with the machine's reason until it does."""
        cluster, wanted = self._cluster(), self._json()
        name = wanted["addonName"]
        if name in cluster.addons:
            raise in_use("Addon already exists.", cluster.name, addonName=name)
        _check_version(name, wanted.get("addonVersion"))
        addon = _new_addon(cluster, wanted)
        pod_identity.set_for_addon(cluster, addon, wanted.get("podIdentityAssociations") or [])
        cluster.addons[name] = addon
        background.start(f"add-on {name}", lambda: _install_until_running(cluster, addon))
        return ActionResult({"addon": addon})

    def describe_addon(self) -> ActionResult:
        """Describe one add-on of a cluster."""
        return ActionResult({"addon": self._addon()[1]})

    def list_addons(self) -> ActionResult:
        """List the names of the cluster's add-ons."""
        return ActionResult({"addons": sorted(self._cluster().addons)})

    def update_addon(self) -> ActionResult:
        """Record what is given. The workload is the same in every version; if it does not run, it is tried again."""
        cluster, addon = self._addon()
        wanted = self._json()
        _check_version(addon["addonName"], wanted.get("addonVersion"))
        if "podIdentityAssociations" in wanted:
            pod_identity.set_for_addon(cluster, addon, wanted["podIdentityAssociations"] or [])
        keys = ("addonVersion", "serviceAccountRoleArn", "configurationValues")
        addon.update({key: wanted[key] for key in keys if key in wanted}, modifiedAt=utcnow())
        failed = addon["status"] in _FAILED
        params = {key: wanted[key] for key in keys if key in wanted}
        update = new_update(cluster, "AddonUpdate", params, "InProgress" if failed else "Successful")
        if failed:
            addon["status"] = "UPDATING"
            background.start(f"add-on {addon['addonName']}", lambda: end_update(update, _try_install(cluster, addon, "UPDATE_FAILED")))
        return ActionResult({"update": update})

    def delete_addon(self) -> ActionResult:
        """Delete the add-on: DELETING, until its workload is gone. With `preserve` the workload stays."""
        cluster, addon = self._addon()
        addon["status"] = "DELETING"
        preserve = self._query("preserve") == ["true"]
        background.start(f"delete add-on {addon['addonName']}", lambda: _remove_workload(cluster, addon, preserve))
        return ActionResult({"addon": addon})

    def describe_addon_versions(self) -> ActionResult:
        """Describe the versions for the machine's Kubernetes, of all add-ons or of one."""
        wanted, kubernetes = self._query("addonName"), self._query("kubernetesVersion")
        names = [name for name in VERSIONS if not wanted or name == wanted[0]]
        if kubernetes and kubernetes[0] != ssm.MINOR:
            names = []
        return ActionResult({"addons": [_versions_of(name) for name in names]})

    def describe_addon_configuration(self) -> ActionResult:
        """Return a schema that accepts anything, because no configuration has an effect here."""
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


def _install_until_running(cluster: EksCluster, addon: Shape) -> None:
    """Try to install the workload until it runs or the add-on is deleted, as EKS does."""
    while _try_install(cluster, addon, "CREATE_FAILED"):
        time.sleep(_RETRY_S)
        exists = models.find_cluster(cluster.name) is cluster and cluster.addons.get(addon["addonName"]) is addon
        if not exists or addon["status"] not in (*_FAILED, "UPDATING"):
            return


def _try_install(cluster: EksCluster, addon: Shape, failed: str) -> list[Shape]:
    """Try once, and set the add-on ACTIVE or to the status `failed`, unless it is being deleted. Return its health issues."""
    problems = []
    try:
        current_machine.machine().install_addon(cluster.name, addon["addonName"])
    except MachineError as error:
        problems = [issue("InternalFailure", str(error), addon["addonName"])]
    with moto_lock.MOTO_LOCK:
        if addon["status"] in ("CREATING", "UPDATING", *_FAILED):
            addon["health"] = {"issues": problems}
            addon["status"] = failed if problems else "ACTIVE"
    return problems


def _remove_workload(cluster: EksCluster, addon: Shape, preserve: bool) -> None:
    try:
        if not preserve:
            current_machine.machine().remove_addon(cluster.name, addon["addonName"])
    except MachineError as error:
        addon["health"] = {"issues": [issue("InternalFailure", str(error), addon["addonName"])]}
        addon["status"] = "DELETE_FAILED"
        return
    with moto_lock.MOTO_LOCK:
        pod_identity.set_for_addon(cluster, addon, [])
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
