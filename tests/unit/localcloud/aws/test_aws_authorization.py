"""The endpoint does what a principal's policies allow, and nothing else; its refusals are AWS's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws

from localcloud import settings

_names = itertools.count()
ACCOUNT = settings.ACCOUNT
HERE = f"{settings.REGION}:{ACCOUNT}"
_ENTRY = f"role/{ACCOUNT}/{settings.ROLE}"


def allow(*actions: str, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class Actor:
    """A session of a role of its own, whose policy a test sets."""

    def __init__(self, aws: EmbeddedAws) -> None:
        self.aws, self.arn = aws, aws.role()
        self.name = self.arn.rpartition("/")[2]
        self.session = aws.assume(self.arn)

    def may(self, *statements: dict[str, Any]) -> None:
        self.aws.client("iam").put_role_policy(RoleName=self.name, PolicyName="own", PolicyDocument=policy(*statements))

    def client(self, service: str) -> Any:
        return self.aws.client(service, self.session)


@pytest.fixture
def actor(aws: EmbeddedAws) -> Actor:
    return Actor(aws)


@pytest.fixture(scope="module")
def powerless(aws_endpoint: EmbeddedAws) -> Actor:
    """A session that may do nothing, for all tests that only ask: it is refused before anything is looked up."""
    return Actor(aws_endpoint)


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    """Return the code and the message with which the call is refused."""
    with pytest.raises(ClientError) as error:
        call()
    answer = error.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    return answer["Error"]["Code"], answer["Error"]["Message"]


def test_an_action_that_is_taken_away_is_refused_with_its_name_the_caller_and_the_resource(aws: EmbeddedAws, actor: Actor) -> None:
    aws.cluster()
    actor.may(allow("eks:*"))
    assert actor.client("eks").describe_cluster(name="demo")["cluster"]["name"] == "demo"
    actor.may(allow("eks:List*", "eks:Create*"))
    code, message = refusal(lambda: actor.client("eks").describe_cluster(name="demo"))
    assert code == "AccessDeniedException"
    assert message == (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{actor.name}/tester is not authorized to perform: eks:DescribeCluster "
        f"on resource: arn:aws:eks:{HERE}:cluster/demo because no identity-based policy allows the eks:DescribeCluster action"
    )
    assert actor.client("eks").list_clusters()["clusters"] == ["demo"]


_NOT_OF_THE_JSON_PROTOCOLS = {"ec2": "UnauthorizedOperation"} | dict.fromkeys(("autoscaling", "elasticache", "iam", "s3"), "AccessDenied")
_IN_S3 = {"Bucket": "b", "Key": "a/k"}


@pytest.mark.parametrize(
    ("service", "call", "given", "action", "resource"),
    [
        ("autoscaling", "delete_auto_scaling_group", {"AutoScalingGroupName": "g"}, "", "autoScalingGroup:*:autoScalingGroupName/g"),
        ("ec2", "describe_vpcs", {}, "", "*"),
        ("ec2", "create_vpc", {"CidrBlock": "10.0.0.0/16"}, "", "vpc/*"),
        ("ec2", "delete_vpc", {"VpcId": "vpc-0123456789abcdef0"}, "", "vpc/vpc-0123456789abcdef0"),
        ("ecr", "describe_repositories", {"repositoryNames": ["own"]}, "", "repository/own"),
        ("ecr", "get_authorization_token", {}, "", "*"),
        ("eks", "describe_access_entry", {"clusterName": "c", "principalArn": settings.ROLE_ARN}, "", f"access-entry/c/{_ENTRY}/*"),
        ("eks", "describe_nodegroup", {"clusterName": "c", "nodegroupName": "n"}, "", "nodegroup/c/n/*"),
        ("eks-auth", "assume_role_for_pod_identity", {"clusterName": "c", "token": "t"}, "", f"arn:aws:eks:{HERE}:cluster/c"),
        ("elasticache", "test_failover", {"ReplicationGroupId": "g", "NodeGroupId": "1"}, "", "replicationgroup:g"),
        ("events", "put_rule", {"Name": "r", "EventPattern": "{}"}, "", "rule/r"),
        ("events", "describe_rule", {"Name": "r", "EventBusName": "own"}, "", "rule/own/r"),
        ("iam", "delete_instance_profile", {"InstanceProfileName": "p"}, "", f"arn:aws:iam::{ACCOUNT}:instance-profile/p"),
        ("iam", "get_role", {"RoleName": settings.ROLE}, "", settings.ROLE_ARN),
        ("kms", "describe_key", {"KeyId": "k"}, "", "key/k"),
        ("logs", "create_log_group", {"logGroupName": "/g"}, "", "log-group:/g:log-stream:"),
        ("s3", "delete_objects", {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}]}}, "DeleteObject", "arn:aws:s3:::b/k"),
        ("s3", "get_bucket_encryption", {"Bucket": "b"}, "GetEncryptionConfiguration", "arn:aws:s3:::b"),
        ("s3", "get_object", _IN_S3 | {"VersionId": "1"}, "GetObjectVersion", "arn:aws:s3:::b/a/k"),
        ("s3", "list_objects_v2", {"Bucket": "b"}, "ListBucket", "arn:aws:s3:::b"),
        ("s3", "put_object", _IN_S3 | {"Body": b"x"}, "", "arn:aws:s3:::b/a/k"),
        ("secretsmanager", "create_secret", {"Name": "a/s", "SecretString": "x"}, "", "secret:a/s-??????"),
        ("secretsmanager", "get_secret_value", {"SecretId": "missing"}, "", "missing"),
        ("sqs", "create_queue", {"QueueName": "q"}, "", "q"),
        ("ssm", "get_parameter", {"Name": "/aws/service/x"}, "", f"arn:aws:ssm:{settings.REGION}::parameter/aws/service/x"),
        ("ssm", "get_parameter", {"Name": "/own"}, "", "parameter/own"),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else "",
)
def test_each_protocol_has_its_own_refusal_and_each_service_its_own_arns(
    powerless: Actor, service: str, call: str, given: dict[str, Any], action: str, resource: str
) -> None:
    whole = resource if resource.startswith(("arn:", "*", "missing")) else f"arn:aws:{service}:{HERE}:{resource}"
    client = powerless.client(service)
    code, message = refusal(lambda: getattr(client, call)(**given))
    assert code == _NOT_OF_THE_JSON_PROTOCOLS.get(service, "AccessDeniedException")
    wanted = f"{service}:{action or client.meta.method_to_api_mapping[call]}"
    assert f"is not authorized to perform: {wanted} on resource: {whole} because no identity-based policy allows" in message


def test_resources_are_enforced(aws: EmbeddedAws, actor: Actor) -> None:
    mine, other = (aws.client("sqs").create_queue(QueueName=name)["QueueUrl"] for name in ("mine", "other"))
    actor.may(allow("sqs:SendMessage", resource=f"arn:aws:sqs:*:{ACCOUNT}:mine"))
    actor.client("sqs").send_message(QueueUrl=mine, MessageBody="x")
    assert f"arn:aws:sqs:{HERE}:other" in refusal(lambda: actor.client("sqs").send_message(QueueUrl=other, MessageBody="x"))[1]
    entries = [{"Id": "1", "MessageBody": "x"}]
    actor.client("sqs").send_message_batch(QueueUrl=mine, Entries=entries)
    assert "sqs:SendMessage on" in refusal(lambda: actor.client("sqs").send_message_batch(QueueUrl=other, Entries=entries))[1]


def test_an_explicit_deny_wins_and_says_so(actor: Actor) -> None:
    actor.may(allow("*"), {"Effect": "Deny", "Action": "ec2:DescribeVpcs", "Resource": "*"})
    actor.client("ec2").describe_subnets()
    assert "with an explicit deny in an identity-based policy" in refusal(actor.client("ec2").describe_vpcs)[1]


def test_managed_policies_and_those_of_groups_count(aws: EmbeddedAws) -> None:
    iam, name = aws.client("iam"), f"user-{next(_names)}"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    ec2 = aws.client("ec2", boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=settings.REGION))
    assert refusal(ec2.describe_vpcs)[0] == "UnauthorizedOperation"
    iam.create_group(GroupName=name)
    iam.add_user_to_group(GroupName=name, UserName=name)
    iam.put_group_policy(GroupName=name, PolicyName="vpcs", PolicyDocument=policy(allow("ec2:DescribeVpcs")))
    ec2.describe_vpcs()
    arn = iam.create_policy(PolicyName=name, PolicyDocument=policy(allow("ec2:DescribeSubnets")))["Policy"]["Arn"]
    iam.attach_user_policy(UserName=name, PolicyArn=arn)
    ec2.describe_subnets()
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy(allow("ec2:DescribeImages")), SetAsDefault=True)
    assert refusal(ec2.describe_subnets)[0] == "UnauthorizedOperation"


def test_a_session_policy_and_a_permissions_boundary_limit_what_the_role_may_do(aws: EmbeddedAws, actor: Actor) -> None:
    actor.may(allow("ec2:*"))
    given = aws.client("sts").assume_role(RoleArn=actor.arn, RoleSessionName="less", Policy=policy(allow("ec2:DescribeVpcs", "s3:*")))[
        "Credentials"
    ]
    less = boto3.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name=settings.REGION)
    aws.client("ec2", less).describe_vpcs()
    assert "because no session policy allows the ec2:DescribeSubnets action" in refusal(aws.client("ec2", less).describe_subnets)[1]
    assert "because no identity-based policy allows" in refusal(aws.client("s3", less).list_buckets)[1]
    iam = aws.client("iam")
    boundary = iam.create_policy(PolicyName=actor.name, PolicyDocument=policy(allow("ec2:DescribeSubnets")))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName=actor.name, PermissionsBoundary=boundary)
    actor.client("ec2").describe_subnets()
    assert "because no permissions boundary allows the ec2:DescribeVpcs action" in refusal(actor.client("ec2").describe_vpcs)[1]


@pytest.mark.parametrize(
    ("more", "said"), [({"Policy": "{"}, "not valid JSON"), ({"PolicyArns": [{"arn": settings.ROLE_ARN}]}, "PolicyArns")]
)
def test_a_session_policy_that_cannot_be_applied_is_refused(aws: EmbeddedAws, actor: Actor, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        aws.client("sts").assume_role(RoleArn=actor.arn, RoleSessionName="less", **more)


def test_a_role_is_assumed_by_whom_it_names_or_by_whom_the_account_lets(aws: EmbeddedAws, actor: Actor) -> None:
    iam, open_to_account = aws.client("iam"), aws.role()
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": actor.arn},
        "Condition": {"StringEquals": {"sts:ExternalId": "first"}},
    }
    named = iam.create_role(RoleName=f"named-{next(_names)}", AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]

    def assume(role: str, **more: Any) -> Any:
        return actor.client("sts").assume_role(RoleArn=role, RoleSessionName="chained", **more)

    assume(named, ExternalId="first")
    assert refusal(lambda: assume(named, ExternalId="second"))[0] == "AccessDenied"
    assert "sts:AssumeRole on resource" in refusal(lambda: assume(open_to_account))[1]
    actor.may(allow("sts:AssumeRole", resource=open_to_account))
    assume(open_to_account)
    actor.may({"Effect": "Deny", "Action": "sts:*", "Resource": "*"})
    assert refusal(lambda: assume(named, ExternalId="first"))[0] == "AccessDenied"
    assert actor.client("sts").get_caller_identity()["Account"] == ACCOUNT, "no policy can take that away"


def test_passing_a_role_to_a_service_needs_permission_for_that_role_and_service(aws: EmbeddedAws, actor: Actor) -> None:
    role, wanted = aws.role(), {"name": "demo", "resourcesVpcConfig": {"subnetIds": aws.subnets()}}
    actor.may(allow("eks:CreateCluster"))
    create = lambda: actor.client("eks").create_cluster(roleArn=role, **wanted)  # noqa: E731
    assert f"iam:PassRole on resource: {role}" in refusal(create)[1]
    passing = allow("iam:PassRole", resource=role, Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}})
    actor.may(allow("eks:CreateCluster"), passing)
    assert "iam:PassRole" in refusal(create)[1]
    passing["Condition"]["StringEquals"]["iam:PassedToService"] = ["ec2.amazonaws.com", "eks.amazonaws.com"]
    actor.may(allow("eks:CreateCluster"), passing)
    create()
    assert "eks:TagResource" in refusal(lambda: actor.client("eks").create_cluster(roleArn=role, tags={"a": "b"}, **wanted))[1]


def test_a_launch_needs_every_resource_and_the_tags_that_its_conditions_ask_for(aws: EmbeddedAws, actor: Actor) -> None:
    ec2, subnet = aws.client("ec2"), aws.subnets()[0]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    role, profile = aws.role(), f"profile-{next(_names)}"
    aws.client("iam").create_instance_profile(InstanceProfileName=profile)
    aws.client("iam").add_role_to_instance_profile(InstanceProfileName=profile, RoleName=role.rpartition("/")[2])
    tags = [{"ResourceType": kind, "Tags": [{"Key": "owner", "Value": "me"}]} for kind in ("instance", "volume", "network-interface")]
    arn = f"arn:aws:ec2:{settings.REGION}"
    used = allow("ec2:RunInstances", resource=[f"{arn}::image/*", f"{arn}:*:subnet/{subnet}", f"{arn}:*:security-group/*"])
    own = {"StringEquals": {"aws:RequestTag/owner": "me"}}
    made = allow("ec2:RunInstances", resource=[f"{arn}:*:{kind}/*" for kind in ("instance", "volume", "network-interface")], Condition=own)
    tagging = allow("ec2:CreateTags", resource=f"{arn}:*:*/*", Condition={"StringEquals": {"ec2:CreateAction": "RunInstances"}})
    passing = allow("iam:PassRole", resource=role)

    def launch(**changed: Any) -> Any:
        given = {
            "ImageId": image,
            "SubnetId": subnet,
            "MinCount": 1,
            "MaxCount": 1,
            "TagSpecifications": tags,
            "IamInstanceProfile": {"Name": profile},
        }
        return actor.client("ec2").run_instances(**given | changed)

    def refused(**changed: Any) -> str:
        code, message = refusal(lambda: launch(**changed))
        assert code == "UnauthorizedOperation"
        return message

    everything = (used, made, tagging, passing)
    for missing, named in (
        (used, "image/"),
        (made, "instance/*"),
        (tagging, "ec2:CreateTags"),
        (passing, f"iam:PassRole on resource: {role}"),
    ):
        actor.may(*(statement for statement in everything if statement is not missing))
        assert named in refused()
    actor.may(*everything)
    assert "volume/*" in refused(TagSpecifications=[each for each in tags if each["ResourceType"] != "volume"])
    assert "subnet/" in refused(SubnetId=aws.subnets()[1])
    instance = launch()["Instances"][0]["InstanceId"]
    ending = allow("ec2:TerminateInstances", "ec2:CreateTags", resource=f"{arn}:*:instance/*")
    actor.may(ending | {"Condition": {"StringEquals": {"aws:ResourceTag/owner": "you"}}})
    assert instance in refusal(lambda: actor.client("ec2").terminate_instances(InstanceIds=[instance]))[1]
    actor.may(
        ending | {"Condition": {"StringEquals": {"aws:ResourceTag/owner": "me"}, "ForAllValues:StringEquals": {"aws:TagKeys": ["Name"]}}}
    )
    assert instance in refusal(lambda: actor.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": "owner", "Value": "you"}]))[1]
    actor.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": "Name", "Value": "mine"}])
    actor.client("ec2").terminate_instances(InstanceIds=[instance])


def test_who_may_not_list_a_bucket_is_not_told_what_it_lacks(aws: EmbeddedAws, actor: Actor) -> None:
    aws.client("s3").create_bucket(Bucket="objects", CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    aws.client("s3").put_object(Bucket="objects", Key="there", Body=b"x")
    actor.may(allow("s3:GetObject", resource="arn:aws:s3:::objects/*"))
    assert actor.client("s3").get_object(Bucket="objects", Key="there")["Body"].read() == b"x"
    assert "s3:ListBucket" in refusal(lambda: actor.client("s3").get_object(Bucket="objects", Key="missing"))[1]
    actor.may(allow("s3:GetObject", resource="arn:aws:s3:::objects/*"), allow("s3:ListBucket", resource="arn:aws:s3:::objects"))
    with pytest.raises(ClientError, match="NoSuchKey"):
        actor.client("s3").get_object(Bucket="objects", Key="missing")


def test_what_was_asked_for_is_recorded_by_principal_action_and_outcome(aws: EmbeddedAws, actor: Actor) -> None:
    actor.may(allow("ec2:DescribeVpcs"))
    actor.client("ec2").describe_vpcs()
    actor.client("ec2").describe_vpcs()
    refusal(lambda: actor.client("sqs").create_queue(QueueName="q"))
    assert [call for call in aws.get("calls") if call["principal"] == actor.arn] == [
        {"principal": actor.arn, "action": "ec2:DescribeVpcs", "allowed": True, "resources": {"*": 2}},
        {"principal": actor.arn, "action": "sqs:CreateQueue", "allowed": False, "resources": {f"arn:aws:sqs:{HERE}:q": 1}},
    ]
