"""The pipeline's role without one of its rights: the error names the action, and the next run with it ends what this one began."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from embedded_aws import EmbeddedAws
from terraform_runs import locks

from blocks import rights
from blocks.cluster import describe
from blocks.parameters import Infrastructure
from blocks.register import TargetData
from blocks.target import Target
from drills.kubernetes.node_labels import NODEPOOL
from localcloud import settings
from scripts import pipeline_policy
from tasks.aws import account, balancers, expiry, pod_identity
from tasks.aws.leftovers import leftovers
from tasks.cluster import ami, karpenter_orphans
from tasks.cost import spent
from tasks.images.registry import ecr_login
from tasks.prerequisites import quotas
from tasks.prerequisites.aws import check_zones
from tasks.prerequisites.check import run_checks
from tasks.terraform.commands import Workspace, apply, destroy, init, plan
from tasks.terraform.errors import TerraformFailed

pytest_plugins = ["terraform_runs"]
pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

DOCUMENT = json.loads(pipeline_policy.DOCUMENT.read_text())
ALL = frozenset(pipeline_policy.rights_in(DOCUMENT))
STACK, WHOLE = "demo", "whole"
"""Two names, because the roles of the first stay: the one of what the pipeline does itself, and the one that Terraform makes."""


def without(lacking: set[str] | frozenset[str]) -> dict[str, Any]:
    """The policy's document without these actions."""
    statements = []
    for statement in DOCUMENT["Statement"]:
        kept = [action for action in statement["Action"] if statement["Effect"] == "Deny" or action not in lacking]
        if kept:
            statements.append({**statement, "Action": kept})
    return {**DOCUMENT, "Statement": statements}


@dataclass
class Account:
    """The embedded AWS with the pipeline's role, whose rights can be taken away and given back."""

    aws: EmbeddedAws
    target: Target

    def take(self, lacking: set[str] | frozenset[str]) -> None:
        """Leave the role without these actions, and with all others."""
        document = json.dumps(without(lacking))
        self.aws.client("iam").put_role_policy(RoleName=settings.ROLE, PolicyName="pipeline", PolicyDocument=document)

    def asked(self, allowed: bool) -> dict[str, int]:
        """How often the role was allowed, or refused, each action so far."""
        mine = [each for each in self.aws.get("calls") if each["principal"] == settings.ROLE_ARN and each["allowed"] == allowed]
        return {each["action"]: sum(each["resources"].values()) for each in mine}

    def during(self, act: Callable[[], Any], allowed: bool) -> set[str]:
        """The actions that the role was allowed, or refused, while `act` ran, with or without an error of it."""
        before = self.asked(allowed)
        try:
            act()
        finally:
            found = {action for action, times in self.asked(allowed).items() if times > before.get(action, 0)}
        return found


@pytest.fixture(scope="module")
def own(aws_endpoint: EmbeddedAws) -> Iterator[Account]:
    """The account, empty at first; the role has its policy again at the end."""
    aws_endpoint.fresh()
    data = {
        "endpoint_url": aws_endpoint.endpoint.url,
        "region": settings.REGION,
        "access_key_id": aws_endpoint.first.access_key_id,
        "secret_access_key": aws_endpoint.first.secret_access_key,
        "role_arn": settings.ROLE_ARN,
    }
    made = Account(aws_endpoint, TargetData.model_validate(data).target())
    yield made
    made.take(frozenset())


@dataclass
class Stack:
    """The stack of Terraform's whole configuration."""

    own: Account
    workspace: Workspace
    variables: dict[str, Any]

    def until_it_ends(self, lacking: set[str], act: Callable[[], Any]) -> tuple[set[str], set[str]]:
        """Run `act` without the lacking actions, then with those that its error named, and so on until it ends without an error.

        Returns the actions that errors named, and those that were refused and are named by none.
        """
        refused: set[str] = set()
        named: set[str] = set()
        while True:
            self.own.take(lacking - named)
            before, began = self.own.asked(False), time.monotonic()
            error = None
            try:
                act()
            except TerraformFailed as failed:
                error = str(failed)
            now = {action for action, times in self.own.asked(False).items() if times > before.get(action, 0)}
            refused |= now
            print(f"{time.monotonic() - began:.0f} s, refused {sorted(now)}: {error}")
            if error is None:
                break
            more = set(rights.missing(error)) - named
            assert more, f"no other action is named: {error}"
            assert rights.POLICY in error
            named |= more
        self.own.take(frozenset())
        return named, refused - named

    @property
    def refreshing(self) -> Workspace:
        """The workspace, whose plans read what exists."""
        environment = {name: value for name, value in self.workspace.environment.items() if not name.startswith("TF_CLI_ARGS")}
        return replace(self.workspace, environment=environment)

    def plan_and_apply(self) -> None:
        plan(self.workspace, self.variables)
        apply(self.workspace)


FOLDER = Path(__file__).parent / "aws"
"""A folder with a few files."""
KARPENTERS = f"leeward-{STACK}-{settings.REGION}-karpenter"
MODELS = f"leeward-{STACK}-{settings.REGION}-models"
TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}]}
)


def _nothing(aws: EmbeddedAws) -> None:
    """Nothing has to be there."""


def _role(aws: EmbeddedAws, name: str) -> None:
    """The role is there, with one policy."""
    iam = aws.client("iam")
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName=name, PolicyName="launch", PolicyDocument=json.dumps(without(ALL - {"ec2:RunInstances"})))


def _orphans(aws: EmbeddedAws) -> None:
    """An instance and a launch template of a Karpenter that is gone, and its role."""
    tags = [{"Key": key, "Value": STACK} for key in ("eks:eks-cluster-name", "leeward:name")]
    node = [*tags, {"Key": NODEPOOL, "Value": "inf2"}]
    given = {"MinCount": 1, "MaxCount": 1, "TagSpecifications": [{"ResourceType": "instance", "Tags": node}]}
    aws.client("ec2").run_instances(ImageId="ami-12345678", InstanceType="t3.small", **given)
    template = [{"ResourceType": "launch-template", "Tags": tags}]
    aws.client("ec2").create_launch_template(
        LaunchTemplateName="karpenters", LaunchTemplateData={"InstanceType": "t3.small"}, TagSpecifications=template
    )
    _role(aws, KARPENTERS)


def _balancers(aws: EmbeddedAws) -> None:
    """A load balancer of each API in the stack's network, and a target group."""
    ec2, own = aws.client("ec2"), [{"Key": "leeward:name", "Value": STACK}]
    vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": own}])["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.40.{at}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for at, zone in enumerate(settings.AVAILABILITY_ZONES[:2])
    ]
    aws.client("elbv2").create_load_balancer(Name="front", Subnets=subnets)
    aws.client("elbv2").create_target_group(Name="behind", Protocol="HTTP", Port=80, VpcId=vpc)
    listeners = [{"Protocol": "tcp", "LoadBalancerPort": 80, "InstancePort": 80}]
    aws.client("elb").create_load_balancer(LoadBalancerName="classic", Listeners=listeners, Subnets=subnets)


def _cluster(aws: EmbeddedAws) -> None:
    """The cluster, and the role of its workers."""
    aws.cluster(STACK)
    _role(aws, MODELS)


def _logs(aws: EmbeddedAws) -> None:
    """The log group that EKS has made again."""
    aws.client("logs").create_log_group(logGroupName=f"/aws/eks/{STACK}/cluster")


def _locked(aws: EmbeddedAws) -> None:
    """The bucket, with Terraform's lock in it."""
    s3, bucket = aws.client("s3"), account.state_bucket(aws, STACK)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    lock = {"ID": "x", "Operation": "apply", "Who": "me@here", "Created": "2026-11-23T22:09:10Z", "Path": "p", "Info": "", "Version": "1"}
    s3.put_object(Bucket=bucket, Key=f"{account.STATE_KEY}.tflock", Body=json.dumps(lock).encode())


def _checked(target: Target) -> None:
    """The checks before a plan: what a user sees of one that could not be made is an error here."""
    ec2, infrastructure = target.client("ec2"), Infrastructure(name=STACK)
    results = run_checks(
        {"zones": lambda: check_zones(ec2, infrastructure), "quotas": lambda: quotas.check_quotas(target.session(), infrastructure)}
    )
    if unmade := [str(check.detail) for check in results if check.result == "not checked"]:
        raise Unmade("; ".join(unmade))


def _default_quota(target: Target) -> None:
    """A quota that was never changed: the embedded cloud has no value for it, and what AWS would have is its default."""
    said = str(quotas._quota(target.session(), "ec2", quotas.VCPUS[r"p\d"]))
    if "lacks" in said:
        raise Unmade(said)


class Unmade(Exception):
    """Checks were not made."""


def _secret(target: Target) -> None:
    """The secret comes, is read, goes, and is looked for when it is gone."""
    account.redis_auth_token(target, STACK)
    account.redis_auth_token(target, STACK)
    account.delete_redis_auth_token(target, STACK)
    account.delete_redis_auth_token(target, STACK)


def _expires(target: Target) -> None:
    """A stack gets an end, is found by it, and loses it."""
    expiry.set_expiry(target, STACK, datetime(2027, 1, 1, tzinfo=UTC))
    assert [each.name for each in expiry.expiries(target)] == [STACK]
    expiry.set_expiry(target, STACK, None)


def _removed(target: Target) -> None:
    """What Karpenter left goes."""
    karpenter_orphans.remove_rights(target, KARPENTERS)
    karpenter_orphans.remove(target, STACK, lambda seen: None)


def _unbalanced(target: Target) -> None:
    """All load balancers in the network go."""
    for each in balancers.of_stack(target, STACK):
        balancers.remove(target, each)


DOINGS: dict[str, tuple[Callable[[EmbeddedAws], None], Callable[[Target], Any]]] = {
    "bucket": (_nothing, lambda target: account.ensure_state_bucket(target, STACK)),
    "secret": (_nothing, _secret),
    "expiry": (_nothing, _expires),
    "logs": (_logs, lambda target: account.delete_cluster_logs(target, STACK)),
    "evidence": (
        _locked,
        lambda target: account.upload_folder(target, account.state_bucket(target, STACK), "x", Path(__file__).parent / "aws"),
    ),
    "lock": (_locked, lambda target: account.state_lock(target, account.state_bucket(target, STACK))),
    "checks": (_nothing, _checked),
    "default quota": (_nothing, _default_quota),
    "AMI": (_nothing, lambda target: ami.newest(target.session(), ami_version())),
    "registry": (_nothing, lambda target: ecr_login(target.session())),
    "pod identity": (_cluster, lambda target: pod_identity.associate(target, STACK, "mistral")),
    "cluster": (_cluster, lambda target: describe(target.session(), STACK)),
    "Karpenter": (_orphans, _removed),
    "load balancers": (_balancers, _unbalanced),
    "audit": (_nothing, lambda target: leftovers(target.session(), STACK)),
    "cost": (_cluster, lambda target: spent.costs(target.session(), STACK, datetime.now(UTC))),
}
"""What the pipeline does in AWS without Terraform, each with what is there before."""


def ami_version() -> str:
    """The version of Kubernetes that the embedded cloud has AMIs for."""
    return Infrastructure().kubernetes_version


def _there(aws: EmbeddedAws) -> dict[str, int]:
    """How much there is of each kind, but roles, which stay from test to test."""
    found = {service: kinds for service, kinds in aws.get("leftovers").items() if not service.startswith("iam/")}
    return {f"{service} {kind}": len(ids) for service, kinds in found.items() for kind, ids in kinds.items()}


def _anew(own: Account, prepare: Callable[[EmbeddedAws], None]) -> None:
    """Begin again with an empty account, all rights, and what has to be there."""
    own.aws.fresh()
    own.take(frozenset())
    prepare(own.aws)


@dataclass
class Tried:
    """What the tests of this module have taken away so far."""

    parts: list[str] = field(default_factory=list)
    actions: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def tried() -> Tried:
    """The account of what was taken away, empty at first."""
    return Tried()


@pytest.mark.parametrize("doing", DOINGS)
def test_what_the_pipeline_does_itself_names_each_action_that_is_missing_and_ends_when_it_is_given(
    own: Account, tried: Tried, doing: str
) -> None:
    prepare, act = DOINGS[doing]
    _anew(own, prepare)
    needed = own.during(lambda: act(own.target), allowed=True) & ALL
    whole = _there(own.aws)
    assert needed, "the search for what is asked for finds something"
    for action in sorted(needed):
        _anew(own, prepare)
        own.take({action})
        with pytest.raises(Exception, match="lacks") as refused:
            act(own.target)
        assert f"lacks {action}: give it {rights.POLICY}" in str(refused.value)
        own.take(frozenset())
        act(own.target)
        assert _there(own.aws) == whole, f"after {action} was given back"
        tried.actions.add(action)
    tried.parts.append(doing)


def _kept(workspace: Workspace) -> None:
    """Terraform reads, locks and writes its state."""
    init(workspace)
    plan(workspace, {"word": "second"})
    apply(workspace)


def test_terraform_names_each_action_on_its_state_that_is_missing_and_goes_on_when_it_is_given(
    own: Account, tried: Tried, initialised: Workspace, tmp_path: Path
) -> None:
    bucket = account.state_bucket(own.target, STACK)

    def fresh(home: str) -> Workspace:
        _anew(own, _nothing)
        account.ensure_state_bucket(own.target, STACK)
        backend = {**initialised.backend, "bucket": bucket}
        return replace(initialised, home=tmp_path / home, backend=backend, environment=own.target.aws_environment())

    workspace = fresh("whole")
    needed = own.during(lambda: _kept(workspace), allowed=True) & ALL
    assert {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"} <= needed
    for action in sorted(needed):
        workspace = fresh(action.partition(":")[2])
        own.take({action})
        with pytest.raises(TerraformFailed) as refused:
            _kept(workspace)
        lacking, given, _ = str(refused.value).partition(f": give it {rights.POLICY}")
        assert given, refused.value
        assert action in lacking
        own.take(frozenset())
        _kept(workspace)
        assert plan(workspace, {"word": "second"}).empty
        assert locks(own.aws, workspace) == []
        tried.actions.add(action)
    tried.parts.append("state")


READS = {action for action in ALL if action.partition(":")[2].startswith(("Describe", "Get", "List"))}
ENDS = {
    action for action in ALL if action.partition(":")[2].startswith(("Delete", "Detach", "Disassociate", "Release", "Remove", "Revoke"))
}
AT_THE_BEGINNING = {"ec2:RevokeSecurityGroupEgress"}
"""What ends something, and is called when a stack is made: a new security group lets everything out."""
BEFORE_AN_END = {"iam:ListInstanceProfilesForRole"}
"""What is read only before something is deleted."""
ASKED_FOR_LONG = {"logs:PutRetentionPolicy"}
"""Terraform's provider takes the refusal for one that passes, and asks for two minutes: every round would wait for it."""
BORNE = frozenset({"ec2:DescribeNetworkAcls"})
"""Actions whose refusal Terraform's provider bears without a word: it then does not know the network's default ACL, which nothing uses."""
KEEPS_STATE = {action for action in ALL if action.startswith("s3:")}


@pytest.fixture(scope="module")
def stack(own: Account, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack of which nothing is made."""
    if not which("terraform"):
        pytest.skip("there is no terraform on the PATH")
    own.aws.fresh()
    own.take(frozenset())
    bucket = account.ensure_state_bucket(own.target, WHOLE)
    infrastructure = Infrastructure(name=WHOLE)
    # While it is made, nothing is read again: that takes as long as to make it.
    once = {"TF_CLI_ARGS_plan": "-refresh=false"}
    workspace = Workspace(
        home=tmp_path_factory.mktemp("terraform"),
        backend={"bucket": bucket, "key": account.STATE_KEY, "region": settings.REGION},
        environment={**own.target.aws_environment(), **once},
    )
    init(workspace)
    variables = {"name": WHOLE, "region": settings.REGION, "enable_gcs_ha": True, "redis_auth_token": "a" * 64}
    return Stack(own, workspace, {**infrastructure.terraform_variables(), **variables})


@pytest.fixture(scope="module")
def whole(stack: Stack) -> Stack:
    """The stack, wholly made."""
    stack.plan_and_apply()
    return stack


def test_a_stack_is_finished_by_the_runs_after_each_error_about_what_could_not_be_made(stack: Stack, tried: Tried) -> None:
    named, unnamed = stack.until_it_ends(set(ALL - READS - (ENDS - AT_THE_BEGINNING) - KEEPS_STATE - ASKED_FOR_LONG), stack.plan_and_apply)
    assert unnamed <= BORNE
    assert plan(stack.refreshing, stack.variables).empty
    tried.actions |= named
    tried.parts.append("made")


def test_what_could_not_be_read_is_named_too_and_changes_nothing(whole: Stack, tried: Tried) -> None:
    named, unnamed = whole.until_it_ends(set(READS - KEEPS_STATE), lambda: plan(whole.refreshing, whole.variables))
    assert unnamed <= BORNE
    assert plan(whole.refreshing, whole.variables).empty
    tried.actions |= named
    tried.parts.append("read")


def test_a_stack_is_gone_after_the_runs_after_each_error_about_what_could_not_be_deleted(whole: Stack, tried: Tried) -> None:
    named, unnamed = whole.until_it_ends(set(ENDS | BEFORE_AN_END) - KEEPS_STATE, lambda: destroy(whole.refreshing, whole.variables))
    assert unnamed <= BORNE
    assert leftovers(whole.own.target.session(), WHOLE) == []
    assert list(whole.own.aws.get("leftovers")) == ["s3/aws"], "the bucket of the state stays"
    tried.actions |= named
    tried.parts.append("deleted")


UNTRIED = {
    *(action for actions in pipeline_policy._CHANGES.values() for action in actions),
    *(action for actions in pipeline_policy._BY_AWS.values() for action in actions),
    # Nothing asks for these in a stack's life; the last is for an upload that dies between two parts.
    *("ec2:DescribeTags", "elasticache:DescribeSnapshots", "s3:AbortMultipartUpload"),
    *ASKED_FOR_LONG,
    *BORNE,
}
"""Actions that no test here takes away: what Terraform calls when a variable is changed, what AWS does itself, and a few."""


def test_every_action_of_the_policy_was_taken_away_or_is_known_not_to_be(tried: Tried) -> None:
    if set(tried.parts) < {*DOINGS, "state", "made", "read", "deleted"}:
        pytest.skip("not all of this file was run")
    assert sorted(ALL - tried.actions - UNTRIED) == []
