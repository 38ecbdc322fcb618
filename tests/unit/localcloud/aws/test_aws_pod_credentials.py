"""Credentials of EKS Pod Identity: which token gets which role's, from EKS Auth and from the agent."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import ContainerProvider
from botocore.exceptions import ClientError, CredentialRetrievalError
from embedded_aws import EmbeddedAws, session_of

from localcloud import settings
from localcloud.aws.eks import pod_credentials
from localcloud.aws.eks.pod_identity_listeners import ADDON, Agent
from localcloud.machine.interface import PodToken

POD = PodToken("chat", "reader", "reader-7d9f-abcde", "0f0e")
SERVICE = {"Service": "pods.eks.amazonaws.com"}


@pytest.fixture
def cluster(aws: EmbeddedAws) -> EmbeddedAws:
    """The embedded AWS with the cluster `demo` and the agent's add-on in it."""
    aws.cluster()
    aws.client("eks").create_addon(clusterName="demo", addonName=ADDON)
    return aws


@pytest.fixture
def role(aws: EmbeddedAws) -> Iterator[Callable[..., str]]:
    """Create roles, and delete them after the test, because IAM's state is not emptied between tests."""
    made: list[str] = []

    def make(principal: dict[str, str] | str = SERVICE, *actions: str) -> str:
        statement = {"Effect": "Allow", "Principal": principal, "Action": list(actions or ("sts:AssumeRole", "sts:TagSession"))}
        name = f"pod-role-{len(made)}"
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        made.append(name)
        return str(aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"])

    yield make
    for name in made:
        aws.client("iam").delete_role(RoleName=name)


@pytest.fixture(scope="module")
def agent() -> Iterator[str]:
    """URL of a running agent's credentials. The agent is shared, because it has no state."""
    listening = Agent("127.0.0.1", 0)
    listening.start()
    yield f"http://127.0.0.1:{listening.server_port}/v1/credentials"
    listening.stop()


def token(aws: EmbeddedAws, pod: PodToken | None = POD, audience: Any = ("pods.eks.amazonaws.com",), life: float = 3600) -> str:
    """Return a token in the form of a service account's. With a pod, the cluster's API server accepts it."""
    claims = {"aud": audience, "exp": int(time.time() + life)}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "RS256"}, claims)]
    made = ".".join([*parts, "c2lnbmF0dXJl"])
    if pod is not None:
        aws.machine.pod_tokens[made] = pod
    return made


def associate(aws: EmbeddedAws, role_arn: str, **more: Any) -> dict[str, Any]:
    wanted = {"clusterName": "demo", "namespace": POD.namespace, "serviceAccount": POD.service_account, "roleArn": role_arn}
    made: dict[str, Any] = aws.client("eks").create_pod_identity_association(**wanted, **more)["association"]
    return made


def refusal(aws: EmbeddedAws, with_token: str, cluster: str = "demo") -> tuple[str, int]:
    """Return the code and the HTTP status with which EKS Auth refuses the token."""
    with pytest.raises(ClientError) as error:
        aws.client("eks-auth").assume_role_for_pod_identity(clusterName=cluster, token=with_token)
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def ask(url: str, authorization: str | None) -> tuple[int, str]:
    """Return the status and the body of the agent's answer."""
    request = urllib.request.Request(url, headers={} if authorization is None else {"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_a_pods_token_gets_a_session_of_the_associated_role(cluster: EmbeddedAws, role: Callable[..., str]) -> None:
    association = associate(cluster, role())
    answer = cluster.client("eks-auth").assume_role_for_pod_identity(clusterName="demo", token=token(cluster))
    assert answer["subject"] == {"namespace": "chat", "serviceAccount": "reader"}
    assert answer["audience"] == "pods.eks.amazonaws.com"
    assert answer["podIdentityAssociation"] == {key: association[key] for key in ("associationArn", "associationId")}
    made = answer["credentials"]
    assert 5.9 * 3600 < made["expiration"].timestamp() - time.time() < 6.1 * 3600
    session = session_of(made["accessKeyId"], made["secretAccessKey"], made["sessionToken"])
    caller = cluster.client("sts", session).get_caller_identity()
    assert caller["Arn"] == answer["assumedRoleUser"]["arn"]
    assert caller["UserId"] == answer["assumedRoleUser"]["assumeRoleId"]
    assert f":assumed-role/{association['roleArn'].rpartition('/')[2]}/eks-demo-reader-7d9f-" in caller["Arn"]
    assert len(caller["Arn"].rpartition("/")[2]) <= 64


def test_long_names_of_pods_make_a_session_name_that_sts_accepts(cluster: EmbeddedAws, role: Callable[..., str]) -> None:
    associate(cluster, role())
    long = PodToken("chat", "reader", "a.pod-" * 40, "1")
    answer = cluster.client("eks-auth").assume_role_for_pod_identity(clusterName="demo", token=token(cluster, long))
    assert len(answer["assumedRoleUser"]["arn"].rpartition("/")[2]) <= 64


def test_the_sdk_gets_credentials_from_the_agent(cluster: EmbeddedAws, role: Callable[..., str], agent: str, tmp_path: Path) -> None:
    associate(cluster, role())
    file = tmp_path / "token"
    file.write_text(token(cluster))
    found = ContainerProvider({"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file)}).load()
    frozen = found.get_frozen_credentials()
    session = session_of(frozen.access_key, frozen.secret_key, frozen.token)
    assert "assumed-role/pod-role-0/" in cluster.client("sts", session).get_caller_identity()["Arn"]
    assert found.account_id == settings.ACCOUNT
    assert not found.refresh_needed()


def test_the_agent_answers_in_plain_text_why_there_are_no_credentials(cluster: EmbeddedAws, agent: str) -> None:
    status, body = ask(agent, token(cluster))
    assert status == 404
    assert "No pod identity association for service account reader of namespace chat" in body
    assert ask(agent, None)[0] == ask(agent, "garbage")[0] == 400
    assert ask(agent.replace("credentials", "roles"), "x")[0] == 404


def test_the_agent_refuses_every_token_without_the_add_on(aws: EmbeddedAws, role: Callable[..., str], agent: str) -> None:
    assert ask(agent, token(aws))[0] == 503
    aws.cluster()
    associate(aws, role())
    status, body = ask(agent, token(aws))
    assert status == 503
    assert ADDON in body
    aws.client("eks").create_addon(clusterName="demo", addonName=ADDON)
    assert ask(agent, token(aws))[0] == 200


def test_an_sdk_that_is_refused_raises_the_agents_reason(cluster: EmbeddedAws, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent, "AWS_CONTAINER_AUTHORIZATION_TOKEN": token(cluster)}
    with pytest.raises(CredentialRetrievalError, match="No pod identity association"):
        ContainerProvider(variables).load()


def test_a_service_account_without_an_association_has_no_role(cluster: EmbeddedAws, role: Callable[..., str]) -> None:
    associate(cluster, role())
    for pod in (PodToken("chat", "writer", "p", "1"), PodToken("other", "reader", "p", "1")):
        assert refusal(cluster, token(cluster, pod)) == ("ResourceNotFoundException", 404)


def test_a_deleted_association_gives_no_credentials(cluster: EmbeddedAws, role: Callable[..., str]) -> None:
    association = associate(cluster, role())
    pod_credentials.assume_role_for_pod_identity("demo", token(cluster))
    cluster.client("eks").delete_pod_identity_association(clusterName="demo", associationId=association["associationId"])
    assert refusal(cluster, token(cluster))[0] == "ResourceNotFoundException"


@pytest.mark.parametrize(("namespace", "trusted"), [("chat", True), ("other", False)])
def test_a_trust_policy_may_ask_for_cluster_and_namespace(
    cluster: EmbeddedAws, role: Callable[..., str], namespace: str, trusted: bool
) -> None:
    arn = role()
    statement = {"Effect": "Allow", "Principal": SERVICE, "Action": ["sts:AssumeRole", "sts:TagSession"]}
    tags = {"aws:RequestTag/kubernetes-namespace": namespace, "aws:RequestTag/eks-cluster-name": "demo"}
    statement["Condition"] = {"StringEquals": tags, "ArnLike": {"aws:SourceArn": f"arn:aws:eks:*:{settings.ACCOUNT}:cluster/demo"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    cluster.client("iam").update_assume_role_policy(RoleName=arn.rpartition("/")[2], PolicyDocument=document)
    associate(cluster, arn)
    if trusted:
        cluster.client("eks-auth").assume_role_for_pod_identity(clusterName="demo", token=token(cluster))
    else:
        assert refusal(cluster, token(cluster)) == ("AccessDeniedException", 400)


@pytest.mark.parametrize(
    ("principal", "actions"),
    [
        (SERVICE, ("sts:AssumeRole",)),
        (SERVICE, ("sts:TagSession",)),
        ({"Service": "ec2.amazonaws.com"}, ()),
        ({"AWS": f"arn:aws:iam::{settings.ACCOUNT}:root"}, ()),
        ("*", ()),
    ],
    ids=str,
)
def test_a_role_that_does_not_trust_pods_is_denied(
    cluster: EmbeddedAws, role: Callable[..., str], principal: Any, actions: tuple[str, ...]
) -> None:
    associate(cluster, role(principal, *actions))
    assert refusal(cluster, token(cluster)) == ("AccessDeniedException", 400)


def test_a_role_that_does_not_exist_is_denied(cluster: EmbeddedAws) -> None:
    associate(cluster, f"arn:aws:iam::{settings.ACCOUNT}:role/nobody")
    assert refusal(cluster, token(cluster))[0] == "AccessDeniedException"


def test_a_target_role_is_assumed_through_the_associated_role(cluster: EmbeddedAws, role: Callable[..., str]) -> None:
    first = role()
    association = associate(cluster, first, targetRoleArn=role({"AWS": first}, "sts:AssumeRole"))
    arn = pod_credentials.assume_role_for_pod_identity("demo", token(cluster))["assumedRoleUser"]["arn"]
    assert "assumed-role/pod-role-1/" in arn
    update = {"clusterName": "demo", "associationId": association["associationId"], "targetRoleArn": role()}
    cluster.client("eks").update_pod_identity_association(**update)
    assert refusal(cluster, token(cluster))[0] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"pod": None}, "InvalidTokenException"),
        ({"audience": ["https://kubernetes.default.svc"]}, "InvalidTokenException"),
        ({"audience": None}, "InvalidTokenException"),
        ({"life": -10}, "ExpiredTokenException"),
    ],
    ids=str,
)
def test_a_token_that_is_invalid_expired_or_for_another_audience_is_refused(
    cluster: EmbeddedAws, role: Callable[..., str], wrong: dict[str, Any], code: str
) -> None:
    associate(cluster, role())
    assert refusal(cluster, token(cluster, **wrong)) == (code, 400)


def test_a_malformed_token_is_refused(cluster: EmbeddedAws, agent: str) -> None:
    for garbage in ("a.b.c", "a.W10.c", "e30.e30.e30"):
        assert refusal(cluster, garbage)[0] == "InvalidTokenException", garbage
        assert ask(agent, garbage)[0] == 400


def test_a_token_for_a_cluster_that_does_not_exist_is_refused(cluster: EmbeddedAws) -> None:
    assert refusal(cluster, token(cluster), "other") == ("ResourceNotFoundException", 404)


def test_an_api_server_that_does_not_answer_is_an_internal_error(cluster: EmbeddedAws, role: Callable[..., str], agent: str) -> None:
    associate(cluster, role())
    cluster.machine.failures["review_pod_token"] = "it does not answer"
    assert refusal(cluster, token(cluster)) == ("InternalServerException", 500)
    assert ask(agent, token(cluster))[0] == 500


def test_no_token_is_logged_or_recorded(cluster: EmbeddedAws, agent: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "localcloud")
    secret = token(cluster)
    ask(agent, secret)
    assert secret not in caplog.text + repr(cluster.machine)
