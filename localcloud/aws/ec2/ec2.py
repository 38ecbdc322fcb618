"""EC2: corrections of moto 5.2.5 that Terraform and Karpenter need, and instances that are nodes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from moto.ec2 import models as ec2_models
from moto.ec2 import urls as ec2_urls
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import fleets
from moto.ec2.models.amis import Ami
from moto.ec2.models.fleets import Fleet
from moto.ec2.models.instances import Instance, InstanceState, Reservation
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.models.nat_gateways import NatGateway
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.models.subnets import Subnet
from moto.ec2.models.vpcs import VPC
from moto.elb.models import elb_backends
from moto.elbv2.models import elbv2_backends

from localcloud import settings
from localcloud.aws import events, quotas, ssm
from localcloud.aws.ec2 import instances, self_managed, shortages

_EKS_ACCOUNT = "602401143452"
"""Owner of the EKS-optimised AMIs."""


class Ec2Backend(ec2_models.EC2Backend):
    """Moto's EC2, with nodes for instances, and without what moto leaves behind after a deletion."""

    @property
    def _url_module(self) -> Any:
        return ec2_urls

    def _load_amis(self) -> None:
        """Make the AMIs that nodes are launched from: Karpenter describes the ids that it reads in SSM. Moto's 2,700 are left out."""
        for image in ssm.IMAGES:
            self.amis[image.id] = Ami(
                self,
                image.id,
                name=image.name,
                description=f"EKS-optimized Kubernetes node, {image.kind} (embedded)",
                owner_id=_EKS_ACCOUNT,
                owner_alias="amazon",
                public=True,
                virtualization_type="hvm",
                architecture=image.arch,
                creation_date=datetime.strptime(image.date, "%Y%m%d"),
                root_device_type="ebs",
                root_device_name="/dev/xvda",
                region_name=self.region_name,
            )

    def create_launch_template(
        self, name: str, description: str, template_data: dict[str, Any], tag_spec: dict[str, Any]
    ) -> LaunchTemplate:
        """Create the template. Moto also puts the request's own tags into its data, which Terraform reports as drift."""
        template = super().create_launch_template(name, description, template_data, tag_spec)
        data = template.versions[0].data
        specs = [spec for spec in data.pop("TagSpecifications", []) if spec.get("ResourceType") != "launch-template"]
        if specs:
            data["TagSpecifications"] = specs
        return template

    def delete_nat_gateway(self, nat_gateway_id: str) -> NatGateway:
        """Delete the gateway, and its network interface, which moto would keep."""
        gateway = super().delete_nat_gateway(nat_gateway_id)
        self.enis.pop(gateway._eni.id, None)
        return gateway

    def delete_subnet(self, subnet_id: str) -> Subnet:
        """Delete the subnet, unless a load balancer is in it, which moto does not know."""
        for balancer in _balancers():
            if subnet_id in {getattr(each, "id", each) for each in balancer.subnets}:
                raise EC2ClientError(
                    "DependencyViolation", f"The subnet '{subnet_id}' has dependencies and cannot be deleted: load balancer {balancer.name}"
                )
        return super().delete_subnet(subnet_id)

    def delete_vpc(self, vpc_id: str) -> VPC:
        """Delete the VPC, and its default network ACL, which moto would keep."""
        vpc = super().delete_vpc(vpc_id)
        for acl_id in [i for i, acl in self.network_acls.items() if acl.vpc_id == vpc_id]:
            self.network_acls.pop(acl_id)
        return vpc

    def run_instances(self, *args: Any, **kwargs: Any) -> Reservation:
        """Launch instances; those whose user data names a cluster become nodes of it.

        As on AWS, the primary network interface is deleted with its instance; moto's default is that it stays. The region has
        a default, because moto's fleets give none. `Insufficient` when there is no capacity, and `VcpuLimitExceeded` when a quota
        does not allow it; nothing is launched then.
        """
        instance_type = self._type_of(kwargs)
        quotas.check(instance_type, int(kwargs.get("count") or (args[1] if len(args) > 1 else 1)), self._running())
        shortages.check(instance_type, self._zone_of(kwargs))
        reservation = super().run_instances(*args, **{"region_name": self.region_name} | kwargs)
        for instance in reservation.instances:
            instance.nics[0].delete_on_termination = True
            events.send_state_changes(instance, "pending", "running")
            self_managed.on_launched(instance)
        return reservation

    def _running(self) -> list[Instance]:
        return [each for each in self.all_instances() if each.state in ("pending", "running")]

    def _type_of(self, launch: dict[str, Any]) -> str:
        """The instance type that moto will use: the request's, else the launch template's, else a default."""
        template = self._get_template_from_args(launch["launch_template"]).data if launch.get("launch_template") else {}
        found: str = (launch.get("is_instance_type_default") and template.get("InstanceType")) or launch["instance_type"]
        return found

    def _zone_of(self, launch: dict[str, Any]) -> str:
        """The zone that moto will use: that of the subnet, or of the first interface with one, else the one requested, else a default."""
        interfaces = (nic["SubnetId"] for nic in launch.get("nics") or () if "SubnetId" in nic)
        subnet_id = launch.get("subnet_id") or next(interfaces, None)
        return self.get_subnet(subnet_id).availability_zone if subnet_id else launch.get("placement") or f"{self.region_name}a"

    def create_fleet(self, *args: Any, **kwargs: Any) -> Fleet:
        """Create the fleet, with the security groups of its launch template. Moto ignores them, and Karpenter would see drift."""
        fleet = super().create_fleet(*args, **kwargs)
        launched = [(each["instance"], each["launch_spec"]) for each in fleet.on_demand_instances]
        launched += [(request.instance, request.launch_spec) for request in fleet.spot_requests]
        for instance, spec in launched:
            self._apply_template(instance, spec.launch_template_spec)
        self._close_fleets()
        return fleet

    def _apply_template(self, instance: Instance, template: dict[str, str]) -> None:
        data = self._get_template_from_args(template).data
        interface: dict[str, Any] = next(iter(data.get("NetworkInterfaces") or ()), {})
        groups = data.get("SecurityGroupIds") or interface.get("Groups")
        if groups:
            self.modify_instance_security_groups(instance.id, groups)
            instance.nics[0]._group_set = list(instance.security_groups)
        instance.add_tags({"aws:ec2launchtemplate:id": template["LaunchTemplateId"], "aws:ec2launchtemplate:version": template["Version"]})

    def start_instances(self, instance_ids: list[str]) -> list[tuple[Instance, InstanceState]]:
        """Start the instances, and send their state changes to EventBridge."""
        started = super().start_instances(instance_ids)
        for instance, before in started:
            if before.name == "stopped":
                events.send_state_changes(instance, "pending", "running")
        return started

    def stop_instances(self, instance_ids: list[str]) -> list[tuple[Instance, InstanceState]]:
        """Stop the instances, and send their state changes to EventBridge. Refused for nodes, which the machine can only remove."""
        if nodes := [instance_id for instance_id in instance_ids if instances.is_node(instance_id)]:
            raise EC2ClientError("UnsupportedOperation", f"A node of a cluster cannot be stopped here, only terminated: {', '.join(nodes)}")
        stopped = super().stop_instances(instance_ids)
        for instance, before in stopped:
            if before.name == "running":
                events.send_state_changes(instance, "stopping", "stopped")
        return stopped

    def terminate_instances(self, instance_ids: list[str]) -> list[tuple[Instance, InstanceState]]:
        """Terminate the instances. Nodes leave their cluster, and are shutting-down until they have left.

        As on AWS, and unlike moto, it is no error that some are terminated already, and their fleets and spot requests end too.
        """
        wanted = self.get_multi_instances_by_id(instance_ids)
        ended = [(instance, instance._state) for instance in wanted if instance.state in ("shutting-down", "terminated")]
        alive = [instance.id for instance in wanted if instance.state not in ("shutting-down", "terminated")]
        terminated = super().terminate_instances(alive) if alive or not wanted else []
        for instance, _ in terminated:
            instances.on_terminated(instance)
            for request in self.spot_instance_requests.values():
                if request.instance is instance:
                    request.state = "closed"
        self._close_fleets()
        return terminated + ended

    def _close_fleets(self) -> None:
        """Delete the instant fleets that have no instances left."""
        for fleet in self.fleets.values():
            if fleet.fleet_type == "instant" and not (fleet.on_demand_instances or fleet.spot_requests):
                fleet.state = "deleted"


def _balancers() -> list[Any]:
    where = settings.ACCOUNT, settings.REGION
    new, classic = elbv2_backends[where[0]][where[1]].load_balancers, elb_backends[where[0]][where[1]].load_balancers
    return [*new.values(), *classic.values()]


def backend() -> Ec2Backend:
    """The backend of the embedded cloud's region."""
    found = ec2_models.ec2_backends[settings.ACCOUNT][settings.REGION]
    assert isinstance(found, Ec2Backend)
    return found


def extend_moto() -> None:
    """Let `Ec2Backend` keep EC2's state, and correct what moto answers about rules, launch templates, instances and fleets."""
    ec2_models.ec2_backends.backend = Ec2Backend
    setattr(fleets, "Fleet", shortages.CapacityAwareFleet)  # noqa: B010  # moto's backend looks the class up in its module
    shortages.extend_moto()
    # Moto's own functions instantiate these classes, so a subclass would not be used.
    setattr(SecurityGroupRule, "description", property(_rule_description, _set_rule_description))  # noqa: B010
    setattr(LaunchTemplate, "tags", property(LaunchTemplate.get_tags, _ignore))  # noqa: B010
    setattr(Instance, "private_dns_name", property(instances.private_dns_name))  # noqa: B010


def _ignore(template: LaunchTemplate, value: object) -> None:
    """Drop the copy of its tags that moto makes with a template: moto would go on answering with it after the tags change."""


def _rule_description(rule: SecurityGroupRule) -> str | None:
    """The rule's description, also where its source is a security group, for which moto drops it."""
    given: str | None = vars(rule).get("_description")
    return given or rule.ip_range.get("Description") or rule.source_group.get("Description")


def _set_rule_description(rule: SecurityGroupRule, value: str | None) -> None:
    vars(rule)["_description"] = value
