"""Leftovers of a stack are found whatever tool created them; resources of other stacks are not."""

from __future__ import annotations

import json

from embedded_aws import EmbeddedAws

from tasks.aws.account import redis_auth_token
from tasks.aws.leftovers import leftovers


def _found(aws: EmbeddedAws, *services: str, name: str = "mistral") -> list[str]:
    """Return what these services have of the stack; none given: all services, which takes half a second."""
    return [f"{each.service} {each.kind}" for each in leftovers(aws, name, services or None)]


def _tagged(kind: str, **tags: str) -> list[dict[str, object]]:
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


def test_a_tagged_network_is_a_leftover_of_its_own_stack_only(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    for name in ("mistral", "mistral2"):
        ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=_tagged("vpc", **{"leeward:name": name}))
    assert _found(aws, "ec2") == ["ec2 vpc"]


def test_resources_that_kubernetes_created_are_leftovers_too(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    ec2.create_volume(
        AvailabilityZone="us-west-2a", Size=1, TagSpecifications=_tagged("volume", **{"kubernetes.io/cluster/mistral": "owned"})
    )
    assert _found(aws, "ec2") == ["ec2 volume"]


def test_what_others_put_into_the_stacks_network_is_a_leftover(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=_tagged("vpc", **{"leeward:name": "mistral"}))["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    ec2.create_network_interface(SubnetId=subnet)
    assert _found(aws, "ec2") == ["ec2 network-interface", "ec2 vpc"]


def test_a_snapshot_of_the_clusters_volume_is_a_leftover(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-west-2a", Size=1)["VolumeId"]
    ec2.create_snapshot(VolumeId=volume, TagSpecifications=_tagged("snapshot", **{"kubernetes.io/cluster/mistral": "owned"}))
    assert _found(aws, "ec2") == ["ec2 snapshot"]


def test_a_terminated_instance_is_no_leftover(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    started = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=_tagged("instance", **{"aws:eks:cluster-name": "mistral"})
    )
    assert "ec2 instance" in _found(aws, "ec2")
    ec2.terminate_instances(InstanceIds=[started["Instances"][0]["InstanceId"]])
    assert "ec2 instance" not in _found(aws, "ec2")


def test_a_cluster_and_its_log_group_are_leftovers(aws: EmbeddedAws) -> None:
    aws.cluster("mistral")
    aws.client("logs").create_log_group(logGroupName="/aws/eks/mistral/cluster")
    aws.client("logs").create_log_group(logGroupName="/aws/eks/mistral2/cluster")
    assert {"eks cluster", "logs log-group"} <= set(_found(aws, "eks", "logs"))
    assert "eks cluster" not in _found(aws, "eks", name="mistral2")


def test_roles_of_the_same_region_are_leftovers(aws: EmbeddedAws) -> None:
    iam = aws.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    wanted = ("leeward-mistral-us-west-2-node", "leeward-mistral-eu-west-1-node", "leeward-mistral2-us-west-2-node")
    try:
        for role in wanted:
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)
        assert [each.id for each in leftovers(aws, "mistral", ["iam"])] == ["leeward-mistral-us-west-2-node"]
    finally:
        for role in wanted:
            iam.delete_role(RoleName=role)


def test_repositories_secrets_and_redis_groups_are_leftovers(aws: EmbeddedAws) -> None:
    redis_auth_token(aws, "mistral")
    redis_auth_token(aws, "mistral2")
    aws.client("ecr").create_repository(repositoryName="leeward-mistral/serving")
    aws.client("elasticache").create_cache_parameter_group(
        CacheParameterGroupName="leeward-mistral-gcs", CacheParameterGroupFamily="redis7", Description="x"
    )
    assert _found(aws) == ["ecr repository", "elasticache parameter-group", "secretsmanager secret"]


def test_a_stack_with_nothing_but_its_bucket_has_no_leftovers(aws: EmbeddedAws) -> None:
    aws.client("s3").create_bucket(
        Bucket="leeward-mistral-123456789012-us-west-2", CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    assert _found(aws) == []
