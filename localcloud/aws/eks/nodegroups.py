"""The API of EKS managed node groups. `nodegroup_controller.py` launches and removes their instances."""

from __future__ import annotations

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.eks.models import validate_launch_template_combination
from moto.eks.utils import validate_role_arn

from localcloud import settings
from localcloud.aws import background, ssm
from localcloud.aws.auth import credentials
from localcloud.aws.ec2 import ec2
from localcloud.aws.eks import access
from localcloud.aws.eks.models import EksBase, EksCluster, Shape, in_use, invalid, new_update, not_now
from localcloud.aws.eks.nodegroup_controller import NodeGroup

_SCALING_DEFAULTS = {"minSize": 1, "maxSize": 2, "desiredSize": 2}


class NodeGroups(EksBase):
    """Create, update, list and delete node groups; moto describes them."""

    def create_nodegroup(self) -> ActionResult:
        """Create a group: CREATING, then ACTIVE once every node is Ready."""
        cluster, wanted = self._cluster(), self._json()
        name = wanted["nodegroupName"]
        if name in cluster.nodegroups:
            raise in_use(f"NodeGroup already exists with name {name} and cluster name {cluster.name}", cluster.name, nodegroupName=name)
        if cluster.status not in ("ACTIVE", "UPDATING"):
            raise not_now(f"Cluster '{cluster.name}' is not in ACTIVE status", cluster.name)
        group = _new_group(cluster, wanted)
        cluster.nodegroups[name] = group
        _create_access_entry(cluster, group.node_role)
        background.start(f"create node group {name}", group.reconcile)
        return ActionResult({"nodegroup": group})

    def update_nodegroup_config(self) -> ActionResult:
        """Change the group. Scaling adds or removes nodes; new labels and taints apply to nodes that join later."""
        group, wanted = self._group(), self._json()
        scaling = group.scaling_config | (wanted.get("scalingConfig") or {})
        _check_scaling(scaling)
        self.eks_backend.update_nodegroup_config(  # moto's: labels, taints, update config
            group.cluster_name,
            group.nodegroup_name,
            labels=wanted.get("labels"),
            taints=wanted.get("taints"),
            update_config=wanted.get("updateConfig"),
            node_repair_config=wanted.get("nodeRepairConfig"),
        )
        group.scaling_config = scaling
        return self._reconcile(group, "ConfigUpdate", scaling)

    def update_nodegroup_version(self) -> ActionResult:
        """Replace every node by one of the given version and launch template. An old node is removed after the new ones joined."""
        group, wanted = self._group(), self._json()
        if wanted.get("version") not in (None, group.cluster.version):
            raise invalid(f"Requested Nodegroup version {wanted['version']} is not the cluster's", group.cluster_name)
        if wanted.get("launchTemplate"):
            group.launch_template = _template(wanted["launchTemplate"])
        group.version = group.cluster.version
        group.release_version = wanted.get("releaseVersion") or ssm.RELEASE
        group.generation += 1
        return self._reconcile(group, "VersionUpdate", {"ReleaseVersion": group.release_version})

    def list_nodegroups(self) -> ActionResult:
        """List the names of the cluster's node groups; 404 when there is no cluster, where moto fails."""
        self._cluster()
        return super().list_nodegroups()

    def delete_nodegroup(self) -> ActionResult:
        """Delete the group: DELETING, until every node is gone."""
        group = self._group()
        group.deleting, group.status = True, "DELETING"
        background.start(f"delete node group {group.nodegroup_name}", group.reconcile)
        return ActionResult({"nodegroup": group})

    def _group(self) -> NodeGroup:
        group = self.eks_backend.describe_nodegroup(self._path("name"), self._path("nodegroupName"))
        assert isinstance(group, NodeGroup)
        return group

    def _reconcile(self, group: NodeGroup, kind: str, params: Shape) -> ActionResult:
        if group.deleting:
            raise in_use("Nodegroup is being deleted", group.cluster_name, nodegroupName=group.nodegroup_name)
        update = new_update(group.cluster, kind, params, "InProgress")
        group.status, group.modified_at = "UPDATING", utcnow()
        background.start(f"update node group {group.nodegroup_name}", lambda: group.reconcile(update))
        return ActionResult({"update": update})


def _new_group(cluster: EksCluster, wanted: Shape) -> NodeGroup:
    validate_role_arn(wanted["nodeRole"])
    scaling = _SCALING_DEFAULTS | (wanted.get("scalingConfig") or {})
    _check_scaling(scaling)
    _check_subnets(wanted["subnets"])
    template = _template(wanted.get("launchTemplate"))
    if template:
        validate_launch_template_combination(wanted.get("diskSize"), wanted.get("remoteAccess"))
    group = NodeGroup(
        cluster,
        nodegroup_name=wanted["nodegroupName"],
        node_role=wanted["nodeRole"],
        subnets=wanted["subnets"],
        scaling_config=scaling,
        disk_size=wanted.get("diskSize"),
        instance_types=wanted.get("instanceTypes") or _template_types(template),
        ami_type=wanted.get("amiType") or "AL2023_x86_64_STANDARD",
        remote_access=wanted.get("remoteAccess"),
        labels=wanted.get("labels"),
        taints=wanted.get("taints"),
        tags=wanted.get("tags"),
        launch_template=template,
        capacity_type=wanted.get("capacityType"),
        version=wanted.get("version") or cluster.version,
        release_version=wanted.get("releaseVersion") or ssm.RELEASE,
        update_config=wanted.get("updateConfig") or {"maxUnavailable": 1},
        node_repair_config=wanted.get("nodeRepairConfig"),
        account_id=settings.ACCOUNT,
        region_name=settings.REGION,
        aws_partition=credentials.PARTITION,
    )
    group.status = "CREATING"
    _drop_made_up_fields(group, wanted)
    return group


def _drop_made_up_fields(group: NodeGroup, wanted: Shape) -> None:
    """Drop the remote access, and beside a launch template the disk size, that moto makes up: Terraform would replace the group."""
    if not wanted.get("remoteAccess"):
        group.remote_access = None  # type: ignore[assignment]
        group.resources.pop("remoteAccessSecurityGroup", None)
    if group.launch_template:
        group.disk_size = None  # type: ignore[assignment]
    elif not wanted.get("diskSize"):
        group.disk_size = 20


def _template(wanted: Shape | None) -> dict[str, str] | None:
    """Return id, name and version of the launch template, which is given by id or name."""
    if not wanted:
        return None
    by_id = {"template_ids": [wanted["id"]]} if "id" in wanted else {"template_names": [wanted["name"]]}
    found = ec2.backend().describe_launch_templates(**by_id)
    if not found:
        raise invalid(f"Launch template details can't be found: {wanted}")
    return {"id": found[0].id, "name": found[0].name, "version": str(wanted.get("version") or found[0].default_version_number)}


def _template_types(template: dict[str, str] | None) -> list[str]:
    if template:
        version = ec2.backend()._get_template_from_args({"LaunchTemplateId": template["id"], "Version": template["version"]})
        if version.instance_type:
            return [version.instance_type]
    return ["t3.medium"]


def _check_scaling(scaling: dict[str, int]) -> None:
    if not 0 <= scaling["minSize"] <= scaling["desiredSize"] <= scaling["maxSize"]:
        raise invalid(f"Scaling needs minSize <= desiredSize <= maxSize, got {scaling}")


def _check_subnets(subnet_ids: list[str]) -> None:
    known = {subnet.id for subnet in ec2.backend().describe_subnets()}
    missing = [subnet_id for subnet_id in subnet_ids if subnet_id not in known]
    if missing or not subnet_ids:
        raise invalid(f"The subnet ID '{missing[0] if missing else ''}' does not exist")


def _create_access_entry(cluster: EksCluster, node_role: str) -> None:
    """Create the access entry of the group's nodes, as EKS does by itself."""
    if cluster.access_config["authenticationMode"] != "CONFIG_MAP":
        cluster.access_entries.setdefault(node_role, access.new_entry(cluster, node_role, {"type": "EC2_LINUX"}))
