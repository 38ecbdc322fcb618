"""EKS clusters: CREATING until the machine's control plane is ready, FAILED with the machine's reason otherwise."""

from __future__ import annotations

import base64
from typing import Any

from moto.core.responses import ActionResult
from moto.eks.utils import validate_role_arn

from localcloud import settings
from localcloud.aws import background, current_machine, moto_lock, ssm
from localcloud.aws.auth import credentials
from localcloud.aws.ec2 import ec2
from localcloud.aws.eks import access
from localcloud.aws.eks.models import (
    EksBase,
    EksCluster,
    ResourceLimitExceeded,
    Shape,
    clusters,
    end_update,
    in_use,
    invalid,
    issue,
    new_update,
    not_found,
    not_now,
)
from localcloud.machine.interface import MachineError

_DELETE_WAIT_S = 10.0
"""Seconds that DeleteCluster waits for the deletion before it answers."""
_LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")


class Clusters(EksBase):
    """Create, update and delete clusters; moto describes them."""

    def create_cluster(self) -> ActionResult:
        """Create a cluster: CREATING, then ACTIVE once the control plane answers."""
        wanted = self._json()
        _check_limit(wanted["name"])
        validate_role_arn(wanted["roleArn"])
        vpc = _vpc_config(wanted["resourcesVpcConfig"])
        cluster = _new_cluster(wanted, vpc, self.region)
        self.eks_backend.clusters[cluster.name] = cluster
        _create_security_group(cluster)
        caller = credentials.lookup(self.get_access_key())
        background.start(f"create cluster {cluster.name}", lambda: _create_control_plane(cluster, caller.principal_arn if caller else None))
        return ActionResult({"cluster": cluster})

    def delete_cluster(self) -> ActionResult:
        """Delete the cluster: DELETING, until the control plane is gone. Refused while it has node groups."""
        cluster = self._cluster()
        if cluster.nodegroups:
            raise in_use("Cluster has nodegroups attached", cluster.name, nodegroupName=",".join(cluster.nodegroups))
        if cluster.deletion_protection:
            raise not_now("Cluster has deletion protection enabled", cluster.name)
        cluster.status = "DELETING"
        deletion = background.start(f"delete cluster {cluster.name}", lambda: _delete_control_plane(cluster, self.eks_backend.clusters))
        # Once Terraform has seen DELETING, it looks three more times, every ten seconds. A cluster that is gone before its
        # first look saves those thirty seconds.
        with moto_lock.released():
            deletion.join(_DELETE_WAIT_S)
        return ActionResult({"cluster": cluster})

    def update_cluster_config(self) -> ActionResult:
        """Change the cluster's configuration; what is not given stays."""
        cluster, wanted = self._cluster(), self._json()
        cluster.resources_vpc_config.update(wanted.get("resourcesVpcConfig") or {})
        cluster.access_config.update(wanted.get("accessConfig") or {})
        if wanted.get("logging"):
            cluster.logging = _logging(wanted["logging"])
        cluster.upgrade_policy = wanted.get("upgradePolicy") or cluster.upgrade_policy
        cluster.zonal_shift_config = wanted.get("zonalShiftConfig") or cluster.zonal_shift_config
        cluster.deletion_protection = wanted.get("deletionProtection", cluster.deletion_protection)
        return ActionResult({"update": new_update(cluster, _update_kind(wanted), {})})

    def update_cluster_version(self) -> ActionResult:
        """Change the version: UPDATING meanwhile. If the machine cannot run it, the update fails and the cluster keeps its version."""
        cluster, version = self._cluster(), self._json()["version"]
        if cluster.status != "ACTIVE":
            raise in_use(f"Cluster is {cluster.status}", cluster.name)
        if version == cluster.version:
            raise invalid(f"Cluster is already at version {version}", cluster.name)
        update = new_update(cluster, "VersionUpdate", {"Version": version}, "InProgress")
        cluster.status = "UPDATING"
        background.start(f"update cluster {cluster.name}", lambda: _change_version(cluster, version, update))
        return ActionResult({"update": update})

    def associate_encryption_config(self) -> ActionResult:
        """Record the encryption. The machine's etcd stays unencrypted."""
        cluster = self._cluster()
        cluster.encryption_config = self._json()["encryptionConfig"]
        return ActionResult({"update": new_update(cluster, "AssociateEncryptionConfig", {"EncryptionConfig": cluster.encryption_config})})

    def describe_update(self) -> ActionResult:
        """Describe the update record."""
        cluster = self._cluster()
        update = cluster.updates.get(self._path("updateId"))
        if update is None:
            raise not_found(f"No update found for ID: {self._path('updateId')}", cluster.name)
        return ActionResult({"update": update})

    def list_updates(self) -> ActionResult:
        """List the ids of all updates of the cluster and its parts."""
        return ActionResult({"updateIds": list(self._cluster().updates)})


def _check_limit(name: str) -> None:
    existing = clusters()
    if any(cluster.name == name for cluster in existing):
        raise in_use(f"Cluster already exists with name: {name}", name)
    if existing:
        raise ResourceLimitExceeded(message=f"There is room for one cluster, and {existing[0].name} exists: delete it first.")


def _vpc_config(wanted: Shape) -> Shape:
    subnets = {subnet.id: subnet for subnet in ec2.backend().describe_subnets() if subnet.id in wanted["subnetIds"]}
    missing = [subnet_id for subnet_id in wanted["subnetIds"] if subnet_id not in subnets]
    if missing:
        raise invalid(f"The subnet ID '{missing[0]}' does not exist")
    if len({subnet.availability_zone for subnet in subnets.values()}) < 2:
        raise invalid("Subnets specified must be in at least two different AZs")
    defaults = {"endpointPublicAccess": True, "endpointPrivateAccess": False, "publicAccessCidrs": ["0.0.0.0/0"], "securityGroupIds": []}
    return defaults | wanted | {"vpcId": next(iter(subnets.values())).vpc_id}


def _new_cluster(wanted: Shape, vpc: Shape, region: str) -> EksCluster:
    cluster = EksCluster(
        name=wanted["name"],
        role_arn=wanted["roleArn"],
        resources_vpc_config=vpc,
        version=wanted.get("version") or ssm.MINOR,
        kubernetes_network_config={"serviceIpv4Cidr": settings.SERVICE_NETWORK, "ipFamily": "ipv4"}
        | (wanted.get("kubernetesNetworkConfig") or {}),
        logging=_logging(wanted.get("logging") or {}),
        encryption_config=wanted.get("encryptionConfig"),
        tags=wanted.get("tags"),
        remote_network_config=wanted.get("remoteNetworkConfig"),
        account_id=settings.ACCOUNT,
        region_name=region,
        aws_partition=credentials.PARTITION,
    )
    access_config = wanted.get("accessConfig") or {}
    cluster.access_config = {
        "authenticationMode": access_config.get("authenticationMode") or "CONFIG_MAP",
        "bootstrapClusterCreatorAdminPermissions": access_config.get("bootstrapClusterCreatorAdminPermissions", True),
    }
    cluster.upgrade_policy = wanted.get("upgradePolicy") or {"supportType": "EXTENDED"}
    cluster.zonal_shift_config = wanted.get("zonalShiftConfig")
    cluster.deletion_protection = wanted.get("deletionProtection", False)
    return cluster


def _logging(wanted: Shape) -> Shape:
    """Return both the enabled log types and the others, as AWS answers."""
    on = {kind for setup in wanted.get("clusterLogging", []) if setup.get("enabled") for kind in setup.get("types") or []}
    halves = [{"types": [t for t in _LOG_TYPES if (t in on) is enabled], "enabled": enabled} for enabled in (True, False)]
    return {"clusterLogging": [half for half in halves if half["types"]]}


def _create_security_group(cluster: EksCluster) -> None:
    vpc = cluster.resources_vpc_config
    name = f"eks-cluster-sg-{cluster.name}-{credentials.random_secret(8).lower()}"
    group = ec2.backend().create_security_group(
        name,
        "EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, as well as any managed workloads.",
        vpc_id=vpc["vpcId"],
        tags={"Name": name, "aws:eks:cluster-name": cluster.name, f"kubernetes.io/cluster/{cluster.name}": "owned"},
    )
    vpc["clusterSecurityGroupId"] = group.id


def _create_control_plane(cluster: EksCluster, creator: str | None) -> None:
    with cluster.lock:
        if cluster.status != "CREATING":
            return
        try:
            plane = current_machine.machine().create_control_plane(cluster.name, cluster.version)
            if creator and cluster.access_config["bootstrapClusterCreatorAdminPermissions"]:
                access.make_creator_admin(cluster, creator)
        except MachineError as error:
            cluster.health = {"issues": [issue("InternalFailure", str(error), cluster.name)]}
            cluster.status = "FAILED" if cluster.status == "CREATING" else cluster.status
            return
        cluster.endpoint = plane.endpoint
        cluster.certificate_authority = {"data": base64.b64encode(plane.ca_pem.encode()).decode()}
        if cluster.status == "CREATING":  # otherwise it is being deleted already
            cluster.status = "ACTIVE"


def _delete_control_plane(cluster: EksCluster, existing: dict[str, Any]) -> None:
    with cluster.lock:
        if existing.get(cluster.name) is not cluster:
            return
        try:
            current_machine.machine().delete_control_plane(cluster.name)
        except MachineError as error:
            cluster.health = {"issues": [issue("InternalFailure", str(error), cluster.name)]}
            cluster.status = "FAILED"
            return
        with moto_lock.MOTO_LOCK:
            ec2.backend().delete_security_group(group_id=cluster.resources_vpc_config["clusterSecurityGroupId"])
            del existing[cluster.name]


def _change_version(cluster: EksCluster, version: str, update: Shape) -> None:
    problems = []
    with cluster.lock:
        try:
            current_machine.machine().create_control_plane(cluster.name, version)
            cluster.version = version
        except MachineError as error:
            problems = [issue("InternalFailure", str(error), cluster.name)]
        cluster.status = "ACTIVE"
    end_update(update, problems)


def _update_kind(wanted: Shape) -> str:
    kinds = {"logging": "LoggingUpdate", "accessConfig": "AccessConfigUpdate", "upgradePolicy": "UpgradePolicyUpdate"}
    kinds |= {"zonalShiftConfig": "ZonalShiftConfigUpdate", "deletionProtection": "DeletionProtectionUpdate"}
    return next((kind for key, kind in kinds.items() if key in wanted), "EndpointAccessUpdate")
