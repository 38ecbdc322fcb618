"""EKS Pod Identity in a running cluster: a pod gets credentials with the settings that the webhook gave it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import bare_cluster
import boto3
import pytest
from bare_cluster import Aws, kubectl
from botocore.exceptions import ClientError

from localcloud import settings

ROLE = "pod-identity-test"
ACCOUNT, STRANGER = "reader", "stranger"
"""Service accounts, one with and one without an association."""
PATIENCE = "90s"
AS_AN_SDK_DOES = 'wget -qO- --header "Authorization: $(cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)" "$AWS_CONTAINER_CREDENTIALS_FULL_URI"'
WITH_THE_PODS_OWN_TOKEN = (
    f'wget -qO- --header "Authorization: $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)" {settings.POD_IDENTITY_URL}'
)


@pytest.fixture(scope="module")
def cluster(cloud: object, aws: Aws) -> Iterator[str]:
    """A cluster with the add-on, the two service accounts, and a role for one of them."""
    statement = {
        "Effect": "Allow",
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Principal": {"Service": settings.POD_IDENTITY_SERVICE},
    }
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    role = aws("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    try:
        with bare_cluster.running_cluster(aws, ("core",)) as name:
            eks = aws("eks")
            eks.create_pod_identity_association(clusterName=name, namespace="default", serviceAccount=ACCOUNT, roleArn=role)
            for account in (ACCOUNT, STRANGER):
                kubectl("create", "serviceaccount", account)
            yield name
    finally:
        aws("iam").delete_role(RoleName=ROLE)


@pytest.fixture(scope="module")
def busybox(cluster: str) -> str:
    """An image that nodes can pull."""
    return bare_cluster.push_busybox()


@pytest.fixture
def pod(busybox: str) -> Iterator[Callable[..., str]]:
    """A function that runs a pod of the service account, with an init container, and returns the pod's name."""
    made = []

    def run(name: str, account: str, **spec: Any) -> str:
        made.append(name)
        common = {"image": busybox, "securityContext": {"runAsUser": 1000, "runAsNonRoot": True}}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": account,
                "terminationGracePeriodSeconds": 0,
                "nodeSelector": {"pool": "core"},
                "initContainers": [{"name": "before", "command": ["true"], **common}],
                "containers": [{"name": "main", "command": ["sleep", "3600"], **common}],
                **spec,
            },
        }
        kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE}")
        return name

    yield run
    for name in made:
        kubectl("delete", "pod", name, "--ignore-not-found", "--wait=false")


def run_in(pod: str, script: str) -> str:
    return kubectl("exec", pod, "--container=main", "--", "sh", "-c", script)


def containers(pod: str) -> list[dict[str, Any]]:
    spec = json.loads(kubectl("get", "pod", pod, "-o", "json"))["spec"]
    return [*spec["initContainers"], *spec["containers"]]


@pytest.mark.parametrize("host_network", [False, True], ids=["its own network", "the node's network"])
def test_a_pod_gets_credentials_of_its_role_with_the_settings_of_the_webhook(
    pod: Callable[..., str], cluster: str, host_network: bool
) -> None:
    name = pod(f"reads-{str(host_network).lower()}", ACCOUNT, hostNetwork=host_network)
    made = json.loads(run_in(name, AS_AN_SDK_DOES))
    assert made["AccountId"] == settings.ACCOUNT
    endpoint = run_in(name, "echo $AWS_ENDPOINT_URL").strip()
    sts = boto3.client(
        "sts",
        endpoint_url=endpoint,
        region_name=settings.REGION,
        aws_access_key_id=made["AccessKeyId"],
        aws_secret_access_key=made["SecretAccessKey"],
        aws_session_token=made["Token"],
    )
    arn = sts.get_caller_identity()["Arn"]
    assert arn.startswith(f"arn:aws:sts::{settings.ACCOUNT}:assumed-role/{ROLE}/eks-{cluster}-reads-")
    for container in containers(name):
        names = {each["name"] for each in container["env"]}
        assert names >= {"AWS_REGION", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}


def test_a_pod_without_an_association_is_not_changed_and_gets_no_credentials(pod: Callable[..., str]) -> None:
    name = pod("alone", STRANGER)
    assert not any(container.get("env") for container in containers(name))
    with pytest.raises(AssertionError, match="400"):  # the token that every pod has is for another audience
        run_in(name, WITH_THE_PODS_OWN_TOKEN)


def test_only_tokens_of_pods_with_the_right_audience_and_signature_are_accepted(pod: Callable[..., str], cluster: str, aws: Aws) -> None:
    bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod('bound', ACCOUNT)}"]
    audience = f"--audience={settings.POD_IDENTITY_SERVICE}"
    assume = aws("eks-auth").assume_role_for_pod_identity
    right = kubectl("create", "token", ACCOUNT, audience, *bound).strip()
    given = assume(clusterName=cluster, token=right)
    assert given["subject"] == {"namespace": "default", "serviceAccount": ACCOUNT}
    assert f"assumed-role/{ROLE}/eks-{cluster}-bound-" in given["assumedRoleUser"]["arn"]
    wrong_audience, of_no_pod = (kubectl("create", "token", ACCOUNT, *more).strip() for more in (bound, [audience]))
    for wrong in (wrong_audience, of_no_pod, with_a_wrong_signature(right)):
        with pytest.raises(ClientError) as refused:
            assume(clusterName=cluster, token=wrong)
        assert refused.value.response["Error"]["Code"] == "InvalidTokenException"


def with_a_wrong_signature(token: str) -> str:
    """Return the token with a signature that is not its own."""
    head, payload, signature = token.split(".")
    return f"{head}.{payload}.{signature[::-1]}"
