"""The audit of the embedded AWS: what exists, and what is left over since the baseline."""

from __future__ import annotations

import urllib.request
from typing import Any

from embedded_aws import EmbeddedAws, eventually

from localcloud import settings

HERE = settings.REGION


def test_a_new_cloud_has_no_leftovers(aws: EmbeddedAws) -> None:
    assert aws.get("leftovers") == {}


def test_every_resource_is_left_over_until_it_is_deleted(aws: EmbeddedAws) -> None:
    ec2, s3, ecr, secrets = (aws.client(service) for service in ("ec2", "s3", "ecr", "secretsmanager"))
    logs, sqs, kms, events = (aws.client(service) for service in ("logs", "sqs", "kms", "events"))
    group = ec2.create_security_group(GroupName="made", Description="d")["GroupId"]
    s3.create_bucket(Bucket="made", CreateBucketConfiguration={"LocationConstraint": HERE})
    repository = ecr.create_repository(repositoryName="made")["repository"]
    secret = secrets.create_secret(Name="made", SecretString="x")["ARN"]
    logs.create_log_group(logGroupName="made")
    queue = sqs.create_queue(QueueName="made")["QueueUrl"]
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    events.put_rule(Name="made", EventPattern='{"source": ["aws.ec2"]}')
    made = aws.get("leftovers")
    assert made[f"events/{HERE}"]["event_buses"] == ["default/made"]
    assert group in str(made[f"ec2/{HERE}"])
    assert made["s3/aws"] == {"buckets": ["made"]}
    assert made[f"ecr/{HERE}"] == {"repositories": ["made"]}
    for service in ("secretsmanager", "logs", "sqs", "kms"):
        assert f"{service}/{HERE}" in made, made
    assert repository["repositoryUri"] == f"{settings.REGISTRY}/made"

    ec2.delete_security_group(GroupId=group)
    s3.delete_bucket(Bucket="made")
    ecr.delete_repository(repositoryName="made", force=True)
    secrets.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
    logs.delete_log_group(logGroupName="made")
    sqs.delete_queue(QueueUrl=queue)
    events.delete_rule(Name="made")
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert aws.get("leftovers") == {}


def test_a_cluster_is_listed_as_a_resource_and_as_what_the_machine_made(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup(size=1)
    left = aws.get("leftovers")
    assert left[f"eks/{HERE}"] == {"clusters": ["demo"]}
    assert left["machine"] == {"control-planes": ["demo"], "nodes": list(aws.machine.nodes)}
    eks = aws.client("eks")
    eks.delete_nodegroup(clusterName="demo", nodegroupName="inf2")
    eventually(lambda: eks.list_nodegroups(clusterName="demo")["nodegroups"], lambda names: names == [])
    eks.delete_cluster(name="demo")
    left = aws.get("leftovers")
    assert "machine" not in left
    assert f"eks/{HERE}" not in left
    assert set(left[f"ec2/{HERE}"]) <= {"groups", "network_acls", "route_tables", "subnets", "vpcs"}, "only the VPC is left"


def test_what_exists_when_the_baseline_is_set_is_not_left_over(aws: EmbeddedAws) -> None:
    aws.client("sqs").create_queue(QueueName="mine")
    with urllib.request.urlopen(f"{aws.endpoint.url}/localcloud/baseline", data=b"", timeout=60):
        assert aws.get("leftovers") == {}
    assert f"sqs/{HERE}" in aws.get("inventory")


def test_a_deleted_network_leaves_nothing_behind(aws: EmbeddedAws) -> None:
    """Moto by itself keeps the NAT gateway's interface and the VPC's default network ACL."""
    ec2, subnets = aws.client("ec2"), aws.subnets()
    vpc = ec2.describe_subnets(SubnetIds=subnets)["Subnets"][0]["VpcId"]
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=subnets[0], AllocationId=address)["NatGateway"]["NatGatewayId"]
    ec2.delete_nat_gateway(NatGatewayId=nat)
    ec2.release_address(AllocationId=address)
    for subnet in subnets:
        ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)
    assert aws.get("leftovers") == {}


def test_a_launch_template_and_a_rule_are_described_as_they_were_created_so_that_terraform_sees_no_drift(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    tags = [{"ResourceType": "launch-template", "Tags": [{"Key": "a", "Value": "b"}]}]
    made = ec2.create_launch_template(LaunchTemplateName="made", LaunchTemplateData={"InstanceType": "m6i.large"}, TagSpecifications=tags)
    template = made["LaunchTemplate"]["LaunchTemplateId"]
    version: dict[str, Any] = ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"][0]
    assert "TagSpecifications" not in version["LaunchTemplateData"]
    assert made["LaunchTemplate"]["Tags"] == [{"Key": "a", "Value": "b"}]
    ec2.create_tags(Resources=[template], Tags=[{"Key": "a", "Value": "c"}, {"Key": "d", "Value": "e"}])
    shown = ec2.describe_launch_templates(LaunchTemplateIds=[template])["LaunchTemplates"][0]["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in shown} == {"a": "c", "d": "e"}

    group = ec2.create_security_group(GroupName="made", Description="d")["GroupId"]
    permission = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": group, "Description": "from itself"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])["SecurityGroupRules"]
    assert [rule.get("Description") for rule in rules if not rule["IsEgress"]] == ["from itself"]
