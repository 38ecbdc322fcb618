"""Load balancers and target groups in a stack's network, of both APIs of Elastic Load Balancing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.aws.account import Clients
from tasks.aws.leftovers import pages, stack_tags

_TAGS_AT_ONCE = 20
"""Number of resources whose tags one request may ask for."""


@dataclass(frozen=True, slots=True)
class Balancer:
    """A load balancer or target group."""

    service: str
    """elb (classic) or elbv2."""
    kind: str
    id: str
    """ARN, or the name of a classic one."""
    own: bool
    """Whether it has a tag of the stack's cluster, as its controllers set it."""

    def __str__(self) -> str:
        return f"{self.service} {self.kind} {self.id}"


def of_stack(session: Clients, name: str) -> list[Balancer]:
    """All in the VPCs of the stack, and those of its cluster anywhere; load balancers before target groups, which they use."""
    ec2 = session.client("ec2")
    vpcs = {vpc["VpcId"] for vpc in pages(ec2, "describe_vpcs", "Vpcs", Filters=[{"Name": "tag:leeward:name", "Values": [name]}])}
    own = stack_tags(name) | {("elbv2.k8s.aws/cluster", name)}
    return [*_classic(session.client("elb"), vpcs, own), *_modern(session.client("elbv2"), vpcs, own)]


def _classic(elb: Any, vpcs: set[str], own: frozenset[tuple[str, str]]) -> list[Balancer]:
    found = {each["LoadBalancerName"]: each.get("VPCId") for each in pages(elb, "describe_load_balancers", "LoadBalancerDescriptions")}
    tags = {}
    for names in _chunks(list(found)):
        for each in elb.describe_tags(LoadBalancerNames=names)["TagDescriptions"]:
            tags[each["LoadBalancerName"]] = _pairs(each["Tags"])
    mine = {name: bool(tags.get(name, set()) & own) for name in found}
    return [Balancer("elb", "load-balancer", name, mine[name]) for name, vpc in found.items() if mine[name] or vpc in vpcs]


def _modern(elbv2: Any, vpcs: set[str], own: frozenset[tuple[str, str]]) -> list[Balancer]:
    found = {
        each["LoadBalancerArn"]: ("load-balancer", each.get("VpcId")) for each in pages(elbv2, "describe_load_balancers", "LoadBalancers")
    }
    found |= {
        each["TargetGroupArn"]: ("target-group", each.get("VpcId")) for each in pages(elbv2, "describe_target_groups", "TargetGroups")
    }
    tags = {}
    for arns in _chunks(list(found)):
        for each in elbv2.describe_tags(ResourceArns=arns)["TagDescriptions"]:
            tags[each["ResourceArn"]] = _pairs(each["Tags"])
    mine = {arn: bool(tags.get(arn, set()) & own) for arn in found}
    return [Balancer("elbv2", kind, arn, mine[arn]) for arn, (kind, vpc) in found.items() if mine[arn] or vpc in vpcs]


def _chunks(ids: list[str]) -> list[list[str]]:
    return [ids[at : at + _TAGS_AT_ONCE] for at in range(0, len(ids), _TAGS_AT_ONCE)]


def _pairs(tags: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(tag["Key"], tag.get("Value", "")) for tag in tags}


def remove(session: Clients, balancer: Balancer) -> None:
    """Delete it. It is no error that it is gone already."""
    client = session.client(balancer.service)
    if balancer.service == "elb":
        client.delete_load_balancer(LoadBalancerName=balancer.id)
    elif balancer.kind == "load-balancer":
        client.delete_load_balancer(LoadBalancerArn=balancer.id)
    else:
        client.delete_target_group(TargetGroupArn=balancer.id)
