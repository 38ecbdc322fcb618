"""Before a cluster is destroyed, what AWS holds for its objects goes; load balancers of others in its network are named."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws
from kubernetes_server import serving

from tasks.aws.balancers import of_stack, remove
from tasks.cleanup import left_of
from tasks.cluster import foreign
from tasks.cluster.access import NoAccess
from tasks.cluster.foreign import held, remove_held, remove_objects
from tasks.support.progress import Progress

OWNED = {"Key": "elbv2.k8s.aws/cluster", "Value": "demo"}


def network(aws: EmbeddedAws, **tags: str) -> tuple[str, list[str]]:
    """Make a VPC with these tags and two subnets."""
    ec2 = aws.client("ec2")
    given = [{"ResourceType": "vpc", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}] if tags else []
    vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16", TagSpecifications=given)["Vpc"]["VpcId"]
    zones = ("us-west-2a", "us-west-2b")
    made = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.40.{i}.0/24", AvailabilityZone=zone) for i, zone in enumerate(zones)]
    return vpc, [each["Subnet"]["SubnetId"] for each in made]


def balancer(aws: EmbeddedAws, subnets: list[str], name: str = "front", **more: Any) -> str:
    return str(aws.client("elbv2").create_load_balancer(Name=name, Subnets=subnets, **more)["LoadBalancers"][0]["LoadBalancerArn"])


def test_a_balancer_of_others_in_the_stacks_network_is_named_and_is_not_the_clusters(aws: EmbeddedAws) -> None:
    vpc, subnets = network(aws, **{"leeward:name": "demo"})
    arn = balancer(aws, subnets)
    aws.client("elbv2").create_target_group(Name="behind", Protocol="HTTP", Port=80, VpcId=vpc)
    assert [(each.kind, each.own) for each in of_stack(aws, "demo")] == [("load-balancer", False), ("target-group", False)]
    assert f"elbv2 load-balancer {arn}" in left_of(aws, "demo")
    assert of_stack(aws, "other") == []


def test_a_balancer_with_the_clusters_tag_is_its_own_wherever_it_is(aws: EmbeddedAws) -> None:
    _, subnets = network(aws)
    balancer(aws, subnets, Tags=[OWNED])
    balancer(aws, subnets, name="other")
    assert [each.own for each in of_stack(aws, "demo")] == [True]


def test_a_classic_balancer_is_found_too(aws: EmbeddedAws) -> None:
    _, subnets = network(aws, **{"leeward:name": "demo"})
    listeners = [{"Protocol": "tcp", "LoadBalancerPort": 80, "InstancePort": 80}]
    tags = [{"Key": "kubernetes.io/cluster/demo", "Value": "owned"}]
    aws.client("elb").create_load_balancer(LoadBalancerName="classic", Listeners=listeners, Subnets=subnets, Tags=tags)
    (found,) = of_stack(aws, "demo")
    assert (found.service, found.id, found.own) == ("elb", "classic", True)
    remove(aws, found)
    assert of_stack(aws, "demo") == []


def test_a_network_with_a_balancer_cannot_be_deleted_until_it_is_removed(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    vpc, subnets = network(aws, **{"leeward:name": "demo"})
    balancer(aws, subnets)
    aws.client("elbv2").create_target_group(Name="behind", Protocol="HTTP", Port=80, VpcId=vpc)
    with pytest.raises(ClientError, match="DependencyViolation"):
        ec2.delete_subnet(SubnetId=subnets[0])
    for each in of_stack(aws, "demo"):
        remove(aws, each)
    for subnet in subnets:
        ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)
    assert left_of(aws, "demo") == []
    assert aws.get("leftovers") == {}


class Cluster:
    """An API server with objects by collection, which deletes at once."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {}

    def put(self, collection: str, namespace: str, name: str, **spec: Any) -> None:
        self.objects.setdefault(collection, []).append({"metadata": {"namespace": namespace, "name": name}, "spec": spec})

    def items(self, path: str) -> list[dict[str, Any]]:
        return list(self.objects.get(path, ()))

    def delete(self, path: str) -> None:
        group, _, rest = path.partition("/namespaces/")
        namespace, kind, name = rest.split("/")
        found = self.objects[f"{group}/{kind}"]
        found[:] = [obj for obj in found if (obj["metadata"]["namespace"], obj["metadata"]["name"]) != (namespace, name)]


def test_balancers_ingresses_and_claims_go_and_other_services_stay() -> None:
    cluster: Any = Cluster()
    cluster.put("/api/v1/services", "web", "front", type="LoadBalancer")
    cluster.put("/api/v1/services", "web", "inside", type="ClusterIP")
    cluster.put("/apis/networking.k8s.io/v1/ingresses", "web", "way-in")
    cluster.put("/api/v1/persistentvolumeclaims", "db", "data")
    wanted = ["service web/front", "ingress web/way-in", "volume claim db/data"]
    assert [what for what, _ in held(cluster)] == wanted
    assert remove_objects(cluster, Progress("test")) == wanted
    assert [obj["metadata"]["name"] for objects in cluster.objects.values() for obj in objects] == ["inside"]


def test_a_cluster_without_these_kinds_has_nothing_to_remove() -> None:
    with serving() as (_, api):
        assert remove_objects(api, Progress("test")) == []


@pytest.mark.parametrize("remove_foreign", [False, True])
def test_the_clusters_own_balancers_go_and_those_of_others_only_when_asked(
    aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, remove_foreign: bool
) -> None:
    def no_cluster(*_: Any, **__: Any) -> None:
        raise NoAccess("there is none")

    monkeypatch.setattr(foreign, "connect", no_cluster)
    monkeypatch.setattr(foreign, "get_run_logger", lambda: logging.getLogger("test"))
    _, subnets = network(aws, **{"leeward:name": "demo"})
    own, other = balancer(aws, subnets, "own", Tags=[OWNED]), balancer(aws, subnets, "other")
    site: Any = SimpleNamespace(block=SimpleNamespace(session=lambda: aws), infrastructure=SimpleNamespace(name="demo"))
    done = remove_held.fn(site, remove_foreign)
    assert f"elbv2 load-balancer {own}" in done
    assert (f"elbv2 load-balancer {other}" in done) is remove_foreign
    assert ("keeps the network from being destroyed" in caplog.text) is not remove_foreign
