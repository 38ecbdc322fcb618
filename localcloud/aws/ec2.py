"""EC2: what moto 5.2.5 gets wrong and Terraform trips over, and instances that are nodes."""

from __future__ import annotations

from typing import Any

from moto.ec2 import models as ec2_models
from moto.ec2 import urls as ec2_urls
from moto.ec2.models.instances import Instance, InstanceState, Reservation
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.models.nat_gateways import NatGateway
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.models.vpcs import VPC

from localcloud import settings
from localcloud.aws import instances


class Ec2Backend(ec2_models.EC2Backend):
    """Moto's EC2 without the leaks."""

    @property
    def _url_module(self) -> Any:
        return ec2_urls

    def create_launch_template(
        self, name: str, description: str, template_data: dict[str, Any], tag_spec: dict[str, Any]
    ) -> LaunchTemplate:
        """Moto puts the request's own tags into the template's data as well, where Terraform sees drift."""
        template = super().create_launch_template(name, description, template_data, tag_spec)
        data = template.versions[0].data
        specs = [spec for spec in data.pop("TagSpecifications", []) if spec.get("ResourceType") != "launch-template"]
        if specs:
            data["TagSpecifications"] = specs
        return template

    def delete_nat_gateway(self, nat_gateway_id: str) -> NatGateway:
        """Moto leaves the gateway's network interface for ever."""
        gateway = super().delete_nat_gateway(nat_gateway_id)
        self.enis.pop(gateway._eni.id, None)
        return gateway

    def delete_vpc(self, vpc_id: str) -> VPC:
        """Moto leaves the VPC's default network ACL for ever."""
        vpc = super().delete_vpc(vpc_id)
        for acl_id in [i for i, acl in self.network_acls.items() if acl.vpc_id == vpc_id]:
            self.network_acls.pop(acl_id)
        return vpc

    def run_instances(self, *args: Any, **kwargs: Any) -> Reservation:
        """As on AWS, the primary network interface goes with its instance; moto's default is that it stays."""
        reservation = super().run_instances(*args, **kwargs)
        for instance in reservation.instances:
            instance.nics[0].delete_on_termination = True
        return reservation

    def terminate_instances(self, instance_ids: list[str]) -> list[tuple[Instance, InstanceState]]:
        """Instances that are nodes leave their cluster; they show shutting-down until they have."""
        terminated = super().terminate_instances(instance_ids)
        for instance, _ in terminated:
            instances.on_terminated(instance)
        return terminated


def backend(region: str = settings.REGION) -> Ec2Backend:
    """The region's EC2 books."""
    books = ec2_models.ec2_backends[settings.ACCOUNT][region]
    assert isinstance(books, Ec2Backend)
    return books


def install() -> None:
    """EC2's books are these; rules, launch templates and instances answer as on AWS."""
    ec2_models.ec2_backends.backend = Ec2Backend
    # Properties of moto's classes, which its own functions instantiate: there is nothing to subclass.
    setattr(SecurityGroupRule, "description", property(_rule_description, _set_rule_description))  # noqa: B010
    setattr(LaunchTemplate, "tags", property(LaunchTemplate.get_tags, _ignore))  # noqa: B010
    setattr(Instance, "private_dns_name", property(instances.private_dns_name))  # noqa: B010


def _ignore(template: LaunchTemplate, value: object) -> None:
    """Moto copies a launch template's tags when it makes it, and shows the copy for ever."""


def _rule_description(rule: SecurityGroupRule) -> str | None:
    """Moto drops the description of a rule whose source is a group."""
    given: str | None = vars(rule).get("_description")
    return given or rule.ip_range.get("Description") or rule.source_group.get("Description")


def _set_rule_description(rule: SecurityGroupRule, value: str | None) -> None:
    vars(rule)["_description"] = value
