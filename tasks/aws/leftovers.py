"""What is left of a stack in AWS, found by asking each service by name or tag, and what others have in its network by VPC.

The tagging service is not used: it lists few kinds of resources, and some only minutes later. Resources that AWS itself lists
for a while after deletion (terminated instances, deleted NAT gateways) do not count. The bucket of state and evidence stays on
purpose and is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_GONE = frozenset({"terminated", "shutting-down", "deleted", "deleting"})


@dataclass(frozen=True, slots=True)
class Leftover:
    """A resource of a stack that still exists."""

    service: str
    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.service} {self.kind} {self.id}"


def leftovers(session: Any, name: str, services: Iterable[str] | None = None) -> list[Leftover]:
    """List every resource of stack `name` that still exists, except its bucket.

    Args:
        services: Names from SERVICES to ask; None: all.
    """
    found: list[Leftover] = []
    region = session.client("sts").meta.region_name
    for service in SERVICES if services is None else services:
        client = session.client(service)
        found += [Leftover(service, kind, id) for kind, id in _ASK[service](client, Stack(name, region))]
    return sorted(set(found), key=str)


@dataclass(frozen=True, slots=True)
class Stack:
    """Name and region of the stack to search for."""

    name: str
    region: str


Found = Iterator[tuple[str, str]]

# Kind, operation, list in the response, key of the id, and key of the state (None: it has none).
_EC2 = (
    ("vpc", "describe_vpcs", "Vpcs", "VpcId", None),
    ("subnet", "describe_subnets", "Subnets", "SubnetId", None),
    ("security-group", "describe_security_groups", "SecurityGroups", "GroupId", None),
    ("network-interface", "describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId", None),
    ("nat-gateway", "describe_nat_gateways", "NatGateways", "NatGatewayId", "State"),
    ("internet-gateway", "describe_internet_gateways", "InternetGateways", "InternetGatewayId", None),
    ("route-table", "describe_route_tables", "RouteTables", "RouteTableId", None),
    ("address", "describe_addresses", "Addresses", "AllocationId", None),
    ("vpc-endpoint", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId", "State"),
    ("launch-template", "describe_launch_templates", "LaunchTemplates", "LaunchTemplateId", None),
    ("volume", "describe_volumes", "Volumes", "VolumeId", "State"),
    ("snapshot", "describe_snapshots", "Snapshots", "SnapshotId", "State"),
)
_IN_VPC = ("network-interface", "nat-gateway", "vpc-endpoint")
"""Kinds that keep a VPC from being deleted and that anybody may make in it: asked for by VPC, too."""


def stack_tags(name: str) -> frozenset[tuple[str, str]]:
    """The tags that Terraform sets, and those that EKS, Kubernetes and Karpenter set on their own, as key and value."""
    keys = ("leeward:name", "aws:eks:cluster-name", "eks:cluster-name", "cluster.k8s.amazonaws.com/name", "eks:eks-cluster-name")
    return frozenset({*((key, name) for key in keys), (f"kubernetes.io/cluster/{name}", "owned")})


def _ec2(ec2: Any, stack: Stack) -> Found:
    for vpc in pages(ec2, "describe_vpcs", "Vpcs", Filters=[{"Name": "tag:leeward:name", "Values": [stack.name]}]):
        in_vpc = [row for row in _EC2 if row[0] in _IN_VPC]
        yield from _filtered(ec2, in_vpc, {"Name": "vpc-id", "Values": [vpc["VpcId"]]})
    for tag, value in stack_tags(stack.name):
        yield from _filtered(ec2, _EC2, {"Name": f"tag:{tag}", "Values": [value]})


def _filtered(ec2: Any, kinds: Iterable[tuple[str, str, str, str, str | None]], wanted: dict[str, Any]) -> Found:
    """The resources of these kinds, and the instances, that the filter lets through."""
    for kind, operation, key, id, state in kinds:
        # Only DescribeNatGateways spells its filter parameter in the singular.
        filters = {"Filter" if operation == "describe_nat_gateways" else "Filters": [wanted]}
        for resource in pages(ec2, operation, key, **filters):
            if state is None or str(resource.get(state, "")).lower() not in _GONE:
                yield kind, resource[id]
    for instance in instances(ec2, [wanted]):
        if instance["State"]["Name"] not in _GONE:
            yield "instance", instance["InstanceId"]


def _autoscaling(autoscaling: Any, stack: Stack) -> Found:
    for group in pages(autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups"):
        tags = {tag["Key"]: tag.get("Value") for tag in group.get("Tags", ())}
        if stack.name in (tags.get("eks:cluster-name"), tags.get("leeward:name")):
            yield "group", group["AutoScalingGroupName"]


def _eks(eks: Any, stack: Stack) -> Found:
    if stack.name in pages(eks, "list_clusters", "clusters"):
        yield "cluster", stack.name


def _elasticache(elasticache: Any, stack: Stack) -> Found:
    prefix = f"leeward-{stack.name}-gcs"
    for kind, operation, key, id in (
        ("replication-group", "describe_replication_groups", "ReplicationGroups", "ReplicationGroupId"),
        ("cache-cluster", "describe_cache_clusters", "CacheClusters", "CacheClusterId"),
        ("parameter-group", "describe_cache_parameter_groups", "CacheParameterGroups", "CacheParameterGroupName"),
        ("subnet-group", "describe_cache_subnet_groups", "CacheSubnetGroups", "CacheSubnetGroupName"),
    ):
        for resource in pages(elasticache, operation, key):
            if resource[id] == prefix or resource[id].startswith(f"{prefix}-0"):
                yield kind, resource[id]


def _ecr(ecr: Any, stack: Stack) -> Found:
    for repository in pages(ecr, "describe_repositories", "repositories"):
        if repository["repositoryName"].startswith(f"leeward-{stack.name}/"):
            yield "repository", repository["repositoryName"]


def _iam(iam: Any, stack: Stack) -> Found:
    for role in pages(iam, "list_roles", "Roles"):
        if role["RoleName"].startswith(f"leeward-{stack.name}-{stack.region}-"):
            yield "role", role["RoleName"]
    for profile in pages(iam, "list_instance_profiles", "InstanceProfiles"):
        if profile["InstanceProfileName"].startswith(f"leeward-{stack.name}-{stack.region}-"):
            yield "instance-profile", profile["InstanceProfileName"]


def _sqs(sqs: Any, stack: Stack) -> Found:
    for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=f"leeward-{stack.name}-karpenter"):
        for url in page.get("QueueUrls", ()):
            yield "queue", url.rpartition("/")[2]


def _events(events: Any, stack: Stack) -> Found:
    for rule in pages(events, "list_rules", "Rules", NamePrefix=f"leeward-{stack.name}-karpenter-"):
        yield "rule", rule["Name"]


def _logs(logs: Any, stack: Stack) -> Found:
    for group in pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=f"/aws/eks/{stack.name}/"):
        yield "log-group", group["logGroupName"]


def _secretsmanager(manager: Any, stack: Stack) -> Found:
    for secret in pages(manager, "list_secrets", "SecretList", Filters=[{"Key": "name", "Values": [f"leeward/{stack.name}/"]}]):
        if "DeletedDate" not in secret:
            yield "secret", secret["Name"]


_ASK: dict[str, Callable[[Any, Stack], Found]] = {
    "ec2": _ec2,
    "autoscaling": _autoscaling,
    "eks": _eks,
    "elasticache": _elasticache,
    "ecr": _ecr,
    "iam": _iam,
    "sqs": _sqs,
    "events": _events,
    "logs": _logs,
    "secretsmanager": _secretsmanager,
}
SERVICES = tuple(_ASK)
"""All AWS services in which a stack may have resources."""


def pages(client: Any, operation: str, key: str, **arguments: Any) -> list[Any]:
    """All items of a list operation, over all its pages."""
    if not client.can_paginate(operation):
        return list(getattr(client, operation)(**arguments)[key])
    return [resource for page in client.get_paginator(operation).paginate(**arguments) for resource in page[key]]


def instances(ec2: Any, filters: list[dict[str, Any]]) -> list[Any]:
    """All instances that the filters let through."""
    return [one for reservation in pages(ec2, "describe_instances", "Reservations", Filters=filters) for one in reservation["Instances"]]
