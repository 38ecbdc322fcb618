"""Refusals of AWS: the error begins with the action that is missing and the policy that has it."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws

from blocks import rights
from blocks.register import TargetData
from blocks.target import Target
from localcloud import settings
from tasks.aws import account

BUCKET = "leeward-demo-123456789012-us-west-2"


@pytest.fixture
def target(aws: EmbeddedAws) -> Target:
    """A target whose role is not the pipeline's and may do nothing."""
    data = {"access_key_id": aws.first.access_key_id, "secret_access_key": aws.first.secret_access_key, "role_arn": aws.role()}
    return TargetData.model_validate({**data, "endpoint_url": aws.endpoint.url, "region": settings.REGION}).target()


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "action"),
    [
        ("ec2", "describe_vpcs", {}, "ec2:DescribeVpcs"),
        ("eks", "list_clusters", {}, "eks:ListClusters"),
        ("s3", "create_bucket", {"Bucket": BUCKET}, "s3:CreateBucket"),
        ("s3", "head_bucket", {"Bucket": BUCKET}, "s3:ListBucket"),
        ("s3", "head_object", {"Bucket": BUCKET, "Key": "k"}, "s3:GetObject or s3:ListBucket"),
        ("secretsmanager", "get_secret_value", {"SecretId": "leeward/demo/redis-auth"}, "secretsmanager:GetSecretValue"),
        ("sqs", "list_queues", {}, "sqs:ListQueues"),
    ],
)
def test_a_refusal_says_which_action_and_which_policy(
    aws: EmbeddedAws, target: Target, service: str, operation: str, arguments: dict[str, str], action: str
) -> None:
    if operation.startswith("head"):
        aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    with pytest.raises(ClientError) as refused:
        getattr(target.client(service), operation)(**arguments)
    assert f"the role lacks {action}: give it {rights.POLICY}" in str(refused.value)


def test_a_bucket_that_the_role_may_not_see_is_refused_with_the_action(aws: EmbeddedAws, target: Target) -> None:
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    with pytest.raises(account.BucketTaken, match="the role lacks s3:ListBucket"):
        account.bucket_exists(target, BUCKET)


def test_other_errors_stay_as_they_are(aws: EmbeddedAws, target: Target) -> None:
    given = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}], "Version": "2012-10-17"}
    name = target.role_arn.rpartition("/")[2]
    aws.client("iam").put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(given))
    with pytest.raises(ClientError) as absent:
        target.client("eks").describe_cluster(name="demo")
    assert "lacks" not in str(absent.value)


def test_a_refusal_that_names_no_action_is_explained_all_the_same() -> None:
    parsed = {"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}
    rights.explain(parsed, type("Model", (), {"name": "PutObject"}))
    assert parsed["Error"]["Message"].startswith("the role lacks a permission that AWS does not name: give it")
    assert parsed["Error"]["Message"].endswith(". Access Denied")
