"""The TokenReview of EKS bearer tokens: which tokens are accepted, and as which user."""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from embedded_aws import EmbeddedAws, as_token, eks_token, session_of

from localcloud import settings
from localcloud.aws.eks import token_review

POLICIES = "arn:aws:eks::aws:cluster-access-policy/"
CLUSTER, NAMESPACED = {"type": "cluster"}, {"type": "namespace", "namespaces": ["chat", "mistral"]}


@pytest.fixture
def role(aws: EmbeddedAws) -> str:
    """A role with an access entry in cluster `demo`."""
    aws.cluster()
    arn = aws.role()
    aws.client("eks").create_access_entry(clusterName="demo", principalArn=arn, kubernetesGroups=["ray-users"])
    return arn


def _token(aws: EmbeddedAws, session: boto3.Session, cluster: str = "demo", **kwargs: Any) -> str:
    return eks_token(session, cluster, aws.endpoint.url, **kwargs)


def _refusal(aws: EmbeddedAws, token: str, cluster: str = "demo") -> str:
    status = aws.review(token, cluster)
    assert status["authenticated"] is False
    assert "user" not in status
    return str(status["error"])


def test_a_session_of_a_role_with_an_access_entry_is_its_user(aws: EmbeddedAws, role: str) -> None:
    name = role.rpartition("/")[2]
    status = aws.review(_token(aws, aws.assume(role, "alice@example.org")), "demo")
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"arn:aws:sts::{settings.ACCOUNT}:assumed-role/{name}/alice-example.org"
    assert status["user"]["groups"] == ["ray-users"]
    assert status["user"]["extra"]["canonicalArn"] == [role]


def test_an_iam_user_with_an_access_entry_is_known_by_its_arn(aws: EmbeddedAws, role: str) -> None:
    aws.client("eks").create_access_entry(clusterName="demo", principalArn=aws.client("iam").create_user(UserName="bob")["User"]["Arn"])
    key = aws.client("iam").create_access_key(UserName="bob")["AccessKey"]
    bob = session_of(key["AccessKeyId"], key["SecretAccessKey"])
    assert aws.review(_token(aws, bob), "demo")["user"]["username"] == f"arn:aws:iam::{settings.ACCOUNT}:user/bob"
    aws.client("iam").delete_access_key(UserName="bob", AccessKeyId=key["AccessKeyId"])
    aws.client("iam").delete_user(UserName="bob")
    assert "access key" in _refusal(aws, _token(aws, bob))


def test_each_access_policy_is_a_group_that_the_machine_binds(aws: EmbeddedAws, role: str) -> None:
    eks = aws.client("eks")
    for policy, scope in (("AmazonEKSClusterAdminPolicy", CLUSTER), ("AmazonEKSEditPolicy", NAMESPACED)):
        eks.associate_access_policy(clusterName="demo", principalArn=role, policyArn=POLICIES + policy, accessScope=scope)
    groups = set(aws.review(_token(aws, aws.assume(role)), "demo")["user"]["groups"])
    bound = {call[2:] for call in aws.machine.calls if call[0] == "bind_access_policy"}
    expected = {
        ("leeward:AmazonEKSClusterAdminPolicy", "cluster-admin", None),
        ("leeward:AmazonEKSEditPolicy:chat", "edit", "chat"),
        ("leeward:AmazonEKSEditPolicy:mistral", "edit", "mistral"),
    }
    assert expected <= bound
    assert groups == {"ray-users"} | {group for group, _, _ in expected}

    eks.disassociate_access_policy(clusterName="demo", principalArn=role, policyArn=POLICIES + "AmazonEKSClusterAdminPolicy")
    assert "leeward:AmazonEKSClusterAdminPolicy" not in aws.review(_token(aws, aws.assume(role)), "demo")["user"]["groups"]


@pytest.mark.parametrize("mode", ["API", "API_AND_CONFIG_MAP", "CONFIG_MAP"])
def test_the_creator_of_a_cluster_is_its_admin_only_if_that_was_requested(aws: EmbeddedAws, mode: str) -> None:
    aws.cluster(accessConfig={"authenticationMode": mode, "bootstrapClusterCreatorAdminPermissions": True})
    assert aws.review(_token(aws, aws.session), "demo")["user"]["groups"] == ["leeward:AmazonEKSClusterAdminPolicy"]
    aws.fresh()
    aws.cluster(accessConfig={"authenticationMode": mode, "bootstrapClusterCreatorAdminPermissions": False})
    assert "no access entry" in _refusal(aws, _token(aws, aws.session))


def test_a_principal_without_an_access_entry_is_refused(aws: EmbeddedAws, role: str) -> None:
    assert "no access entry" in _refusal(aws, _token(aws, aws.assume(aws.role())))


def test_a_principal_whose_access_entry_was_deleted_is_refused(aws: EmbeddedAws, role: str) -> None:
    session = aws.assume(role)
    aws.client("eks").delete_access_entry(clusterName="demo", principalArn=role)
    assert "no access entry" in _refusal(aws, _token(aws, session))


def test_a_wrong_secret_is_refused(aws: EmbeddedAws, role: str) -> None:
    right = aws.assume(role).get_credentials()
    wrong = session_of(right.access_key, "not-the-secret", right.token)
    assert "signature does not match" in _refusal(aws, _token(aws, wrong))


def test_a_wrong_session_token_is_refused(aws: EmbeddedAws, role: str) -> None:
    right = aws.assume(role).get_credentials()
    for token in (None, "another"):
        wrong = session_of(right.access_key, right.secret_key, token)
        assert "session token" in _refusal(aws, _token(aws, wrong))


def test_a_token_for_another_cluster_is_refused(aws: EmbeddedAws, role: str) -> None:
    assert "signature does not match" in _refusal(aws, _token(aws, aws.assume(role), cluster="other"))


def test_a_token_for_a_cluster_that_does_not_exist_is_refused(aws: EmbeddedAws, role: str) -> None:
    assert "no cluster" in _refusal(aws, _token(aws, aws.assume(role), cluster="other"), "other")


def test_a_token_is_valid_for_fifteen_minutes(aws: EmbeddedAws, role: str) -> None:
    token, hosts = _token(aws, aws.assume(role)), frozenset({aws.endpoint.url.removeprefix("http://")})
    for minutes, accepted in ((14, True), (16, False), (-20, False)):
        review = token_review.review(token, "demo", hosts, datetime.now(UTC) + timedelta(minutes=minutes))
        assert review["status"]["authenticated"] is accepted, minutes


def test_a_token_for_another_sts_is_refused(aws: EmbeddedAws, role: str) -> None:
    token = eks_token(aws.assume(role), "demo", "http://127.0.0.1:1")
    assert "not for the embedded STS" in _refusal(aws, token)


def test_a_token_for_another_action_than_get_caller_identity_is_refused(aws: EmbeddedAws, role: str) -> None:
    assert "not GetCallerIdentity" in _refusal(aws, _token(aws, aws.assume(role), action="GetSessionToken"))


def test_a_body_that_is_not_a_token_review_is_a_bad_request(aws: EmbeddedAws) -> None:
    for body in (b"", b"[]", b"{}", b'{"spec": null}', b'{"spec": {}}', b"\xff"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{aws.endpoint.url}/localcloud/token-review/demo", body, timeout=60)
        with error.value as answer:
            assert answer.code == 400


def test_a_malformed_token_is_refused(aws: EmbeddedAws, role: str) -> None:
    long, broken = "k8s-aws-v1." + "A" * 20_000, as_token("http://[")
    for token in ("", "garbage", "k8s-aws-v1.", "k8s-aws-v1.!!!", "k8s-aws-v1.AAAA", "k8s-aws-v1.\u00e4", "k8s-aws-v2.aGk", long, broken):
        assert _refusal(aws, token), token


def test_a_url_that_is_not_signed_or_contains_more_is_refused(aws: EmbeddedAws, role: str) -> None:
    url = f"{aws.endpoint.url}/?Action=GetCallerIdentity&Version=2011-06-15"
    assert "presigned URL needs" in _refusal(aws, as_token(url))
    assert "contains more" in _refusal(aws, as_token(url + "&Action=GetCallerIdentity"))
    assert "contains more" in _refusal(aws, as_token(url + "&RoleArn=x"))
    assert "contains more" in _refusal(aws, as_token(url.replace("/?", "/clusters?")))


def test_an_access_entry_cannot_name_a_reserved_group(aws: EmbeddedAws, role: str) -> None:
    eks, other = aws.client("eks"), aws.role()
    for group in ("system:masters", "leeward:AmazonEKSClusterAdminPolicy"):
        with pytest.raises(eks.exceptions.InvalidParameterException, match="cannot start with"):
            eks.create_access_entry(clusterName="demo", principalArn=other, kubernetesGroups=[group])


def test_an_access_entry_needs_a_principal_that_exists(aws: EmbeddedAws, role: str) -> None:
    eks = aws.client("eks")
    with pytest.raises(eks.exceptions.InvalidParameterException, match="invalid principal"):
        eks.create_access_entry(clusterName="demo", principalArn=f"arn:aws:iam::{settings.ACCOUNT}:role/nobody")
