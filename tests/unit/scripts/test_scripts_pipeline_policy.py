"""The policy of the pipeline's role: made from a record, enough for every call in the code, and refused where it ends."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.session import get_session
from embedded_aws import EmbeddedAws

from localcloud import settings
from localcloud.aws.authorization import needs
from localcloud.aws.authorization.operations import Operation
from localcloud.aws.authorization.policies import Decision, Question, decide
from localcloud.aws.services import SERVICES
from scripts import pipeline_policy
from scripts.support.paths import ROOT
from tasks.aws import account

DOCUMENT = json.loads(pipeline_policy.DOCUMENT.read_text())
_INLINE_MOST = 10_240
"""Characters of the policies within a role, by IAM's quota."""


def call(action: str, *resources: str, allowed: bool = True, role: str = settings.ROLE) -> dict[str, Any]:
    return {"principal": f"arn:aws:iam::1:role/{role}", "action": action, "allowed": allowed, "resources": dict.fromkeys(resources, 1)}


def calls_in_code() -> Iterator[tuple[str, str]]:
    """Service and operation of every call of AWS in tasks and blocks: names of operations, in a file that names the service."""
    session = get_session()
    models = {service.name: session.get_service_model(service.name) for service in SERVICES}
    operations = {name: {xform_name(each): each for each in model.operation_names} for name, model in models.items()}
    for file in (path for folder in ("tasks", "blocks") for path in sorted((ROOT / folder).rglob("*.py"))):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        names = texts | {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        for service in texts & operations.keys():
            yield from ((models[service].signing_name, operations[service][name]) for name in names & operations[service].keys())


def test_names_account_and_region_of_a_record_become_wildcards_and_refusals_are_left_out() -> None:
    made = pipeline_policy.recorded(
        [
            call("s3:PutObject", "arn:aws:s3:::leeward-demo-1-us-west-2/evidence/run/report.html"),
            call("iam:GetRole", "arn:aws:iam::1:role/leeward-demo-us-west-2-node", "arn:aws:iam::1:role/leeward-pipeline"),
            call("elasticache:CreateReplicationGroup", "arn:aws:elasticache:us-west-2:1:replicationgroup:leeward-demo-gcs"),
            call("elasticache:DescribeReplicationGroups", "arn:aws:elasticache:us-west-2:1:replicationgroup:*"),
            call("logs:CreateLogGroup", "arn:aws:logs:us-west-2:1:log-group:/aws/eks/demo/cluster:log-stream:"),
            call("eks:DescribeNodegroup", "arn:aws:eks:us-west-2:1:nodegroup/demo/core/*"),
            call("secretsmanager:DeleteSecret", "leeward/demo/redis-auth"),
            call("ec2:CreateVpc", "arn:aws:ec2:us-west-2:1:vpc/*", allowed=False),
            call("ec2:RunInstances", "arn:aws:ec2:us-west-2:1:instance/*", role="leeward-demo-us-west-2-karpenter"),
        ]
    )
    assert made == {
        "s3:PutObject": {"arn:aws:s3:::leeward-*/*"},
        "iam:GetRole": {"arn:aws:iam::*:role/leeward-*"},
        "elasticache:CreateReplicationGroup": {"arn:aws:elasticache:*:*:*:leeward-*"},
        "elasticache:DescribeReplicationGroups": {"arn:aws:elasticache:*:*:replicationgroup:*"},
        "logs:CreateLogGroup": {"arn:aws:logs:*:*:log-group:/aws/eks/*"},
        "eks:DescribeNodegroup": {"*"},
    }


def test_the_document_is_what_the_command_makes_of_it_again_and_fits_into_a_role() -> None:
    assert pipeline_policy.document(pipeline_policy.rights_in(DOCUMENT)) == DOCUMENT
    assert pipeline_policy.size(DOCUMENT) <= _INLINE_MOST


def test_every_call_of_aws_in_the_code_is_allowed() -> None:
    found = sorted(set(calls_in_code()))
    assert ("ec2", "TerminateInstances") in found, "the search finds what is there"
    allowed = pipeline_policy.rights_in(DOCUMENT)
    actions = {next(needs.of(Operation(service, name, {"Bucket": "b", "Key": "k"}))).action for service, name in found}
    assert actions - allowed.keys() == {"sts:GetCallerIdentity"}, "which nobody needs permission for"


def test_deleting_in_ec2_ends_at_what_other_stacks_have() -> None:
    vpc = "arn:aws:ec2:us-west-2:1:vpc/vpc-1"
    assert decide([DOCUMENT], Question("ec2:DeleteVpc", vpc, {"aws:resourcetag/leeward:name": ("demo",)})) is Decision.ALLOWED
    assert decide([DOCUMENT], Question("ec2:DeleteVpc", vpc)) is Decision.SILENT


def test_the_pipeline_gives_its_own_role_no_rights_and_others_no_policies_but_those_of_nodes() -> None:
    own, node = settings.ROLE_ARN, "arn:aws:iam::1:role/leeward-demo-us-west-2-node"
    assert decide([DOCUMENT], Question("iam:PutRolePolicy", node)) is Decision.ALLOWED
    assert decide([DOCUMENT], Question("iam:PutRolePolicy", own)) is Decision.DENIED
    attach = lambda policy: Question("iam:AttachRolePolicy", node, {"iam:policyarn": (f"arn:aws:iam::aws:policy/{policy}",)})  # noqa: E731
    assert decide([DOCUMENT], attach("AmazonEKSWorkerNodePolicy")) is Decision.ALLOWED
    assert decide([DOCUMENT], attach("AdministratorAccess")) is Decision.SILENT


class Role:
    """The pipeline's role as the pipeline has it."""

    region = settings.REGION

    def __init__(self, aws: EmbeddedAws) -> None:
        self._aws, self._session = aws, aws.assume(settings.ROLE_ARN)

    def client(self, service_name: str, /) -> Any:
        return self._aws.client(service_name, self._session)


@pytest.fixture
def role(aws: EmbeddedAws) -> Role:
    return Role(aws)


def test_the_embedded_clouds_role_has_this_policy_and_no_other(aws: EmbeddedAws) -> None:
    iam = aws.client("iam")
    assert iam.list_attached_role_policies(RoleName=settings.ROLE)["AttachedPolicies"] == []
    names = iam.list_role_policies(RoleName=settings.ROLE)["PolicyNames"]
    assert [iam.get_role_policy(RoleName=settings.ROLE, PolicyName=name)["PolicyDocument"] for name in names] == [DOCUMENT]


def test_bucket_and_secret_of_a_stack_can_be_kept_with_it_and_taken_away_twice(role: Role) -> None:
    bucket = account.ensure_state_bucket(role, "demo")
    assert account.ensure_state_bucket(role, "demo") == bucket
    token = account.redis_auth_token(role, "demo")
    assert account.redis_auth_token(role, "demo") == token
    account.delete_redis_auth_token(role, "demo")
    account.delete_redis_auth_token(role, "demo")


def test_what_the_policy_does_not_give_is_refused_by_name(aws: EmbeddedAws, role: Role) -> None:
    with pytest.raises(ClientError, match=r"not authorized to perform: s3:CreateBucket on resource: arn:aws:s3:::other "):
        role.client("s3").create_bucket(Bucket="other", CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    vpc = aws.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    with pytest.raises(ClientError, match=rf"ec2:DeleteVpc on resource: arn:aws:ec2:{settings.REGION}:{settings.ACCOUNT}:vpc/{vpc} "):
        role.client("ec2").delete_vpc(VpcId=vpc)


def _stack_comes_and_goes(role: Role) -> None:
    account.ensure_state_bucket(role, "demo")
    account.redis_auth_token(role, "demo")
    account.delete_redis_auth_token(role, "demo")


@pytest.mark.parametrize("action", ["secretsmanager:CreateSecret", "secretsmanager:DeleteSecret", "s3:PutBucketVersioning"])
def test_an_action_that_is_taken_away_is_named_by_the_error(aws: EmbeddedAws, role: Role, action: str) -> None:
    iam, taken = aws.client("iam"), {"Effect": "Deny", "Action": action, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [taken]})
    iam.put_role_policy(RoleName=settings.ROLE, PolicyName="taken", PolicyDocument=document)
    try:
        with pytest.raises(ClientError, match=f"not authorized to perform: {action} on resource"):
            _stack_comes_and_goes(role)
    finally:
        iam.delete_role_policy(RoleName=settings.ROLE, PolicyName="taken")


def test_the_command_adds_a_record_to_what_the_document_says(aws: EmbeddedAws, role: Role, tmp_path: Path, monkeypatch: Any) -> None:
    role.client("ec2").describe_vpcs()
    written = tmp_path / "policy.json"
    written.write_text(json.dumps(pipeline_policy.document({"sns:Publish": {"*"}})))
    monkeypatch.setattr(pipeline_policy, "DOCUMENT", written)
    monkeypatch.setattr(pipeline_policy, "ROOT", tmp_path)
    for arguments, has in ((["--endpoint", aws.endpoint.url], True), (["--endpoint", aws.endpoint.url, "--new"], False)):
        monkeypatch.setattr("sys.argv", ["pipeline_policy", *arguments])
        pipeline_policy.main()
        rights = pipeline_policy.rights_in(json.loads(written.read_text()))
        assert rights["ec2:DescribeVpcs"] == {"*"}
        assert ("sns:Publish" in rights) == has
