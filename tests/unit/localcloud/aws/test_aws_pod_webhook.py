"""The admission webhook of EKS Pod Identity: what it changes in which pods; and which pod a TokenReview names."""

from __future__ import annotations

import base64
import copy
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from embedded_aws import EmbeddedAws

from localcloud import settings
from localcloud.aws.eks.pod_identity_listeners import Webhook
from localcloud.machine.cluster import pod_tokens, pod_webhook
from localcloud.machine.interface import PodToken
from localcloud.machine.pki import Authority

TOKEN_FILE = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token"
ADDED = {
    "AWS_STS_REGIONAL_ENDPOINTS": "regional",
    "AWS_DEFAULT_REGION": settings.REGION,
    "AWS_REGION": settings.REGION,
    "AWS_ENDPOINT_URL": settings.AWS_ENDPOINT_URL,
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": TOKEN_FILE,
}
MOUNT = {"name": "eks-pod-identity-token", "mountPath": TOKEN_FILE.rpartition("/")[0], "readOnly": True}


def a_pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"serviceAccountName": "reader", "containers": [{"name": "main", "image": "i"}]} | spec}


def a_review(pod: dict[str, Any], namespace: str = "chat") -> dict[str, Any]:
    request = {"uid": "u-1", "operation": "CREATE", "namespace": namespace, "object": pod}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def patched(pod: dict[str, Any]) -> dict[str, Any]:
    """Apply the webhook's patch to a copy of the pod, with those parts of JSON Patch that it uses."""
    result = copy.deepcopy(pod)
    for operation in pod_webhook.patch(pod):
        *way, last = operation["path"].split("/")[1:]
        place: Any = result
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        if last == "-":
            place.append(operation["value"])
        elif operation["op"] == "replace" or isinstance(place, dict):
            place[int(last) if isinstance(place, list) else last] = operation["value"]
        else:
            raise AssertionError(operation)
    return result


def environment(container: dict[str, Any]) -> dict[str, str]:
    names = [each["name"] for each in container["env"]]
    assert len(set(names)) == len(names)
    return {each["name"]: each["value"] for each in container["env"]}


@dataclass(frozen=True)
class Client:
    """A client of a running webhook, like the API server: over TLS, with the webhook's certificate authority."""

    port: int
    authority: Authority

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        trusting = ssl.create_default_context(cafile=str(self.authority.certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=trusting)
        try:
            connection.request("POST", path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A running webhook, shared because it has no state."""
    authority = Authority(tmp_path_factory.mktemp("pki"), "ca")
    listening = Webhook("127.0.0.1", 0, authority.server("webhook", "pod-identity-webhook", ["127.0.0.1"]))
    listening.start()
    yield Client(listening.server_port, authority)
    listening.stop()


def test_every_container_gets_the_token_and_the_variables() -> None:
    pod = a_pod(
        containers=[{"name": "one", "image": "i"}, {"name": "two", "image": "i", "env": [{"name": "MINE", "value": "1"}]}],
        initContainers=[{"name": "before", "image": "i"}],
        volumes=[{"name": "kube-api-access-x", "emptyDir": {}}],
    )
    spec = patched(pod)["spec"]
    for container in (*spec["containers"], *spec["initContainers"]):
        assert environment(container).items() >= ADDED.items()
        assert container["volumeMounts"] == [MOUNT]
        assert container["image"] == "i"
    assert environment(spec["containers"][1])["MINE"] == "1"
    token = {"audience": "pods.eks.amazonaws.com", "expirationSeconds": 86400, "path": "eks-pod-identity-token"}
    volume = {"name": "eks-pod-identity-token", "projected": {"sources": [{"serviceAccountToken": token}]}}
    assert spec["volumes"] == [{"name": "kube-api-access-x", "emptyDir": {}}, volume]
    assert pod["spec"]["containers"][0] == {"name": "one", "image": "i"}, "the pod that came in was changed"


def test_a_pod_without_volumes_gets_the_tokens_volume() -> None:
    for none in ({}, {"volumes": None}, {"volumes": []}):
        assert [volume["name"] for volume in patched(a_pod(**none))["spec"]["volumes"]] == ["eks-pod-identity-token"]


@pytest.mark.parametrize(
    ("own", "absent"),
    [
        ({"AWS_REGION": "eu-central-1"}, {"AWS_DEFAULT_REGION"}),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, set()),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost/"}, {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}),
    ],
    ids=str,
)
def test_a_container_keeps_its_own_variables_and_mounts(own: dict[str, str], absent: set[str]) -> None:
    env = [{"name": name, "value": value} for name, value in own.items()]
    mine = {"name": "data", "mountPath": "/data"}
    (container,) = patched(a_pod(containers=[{"name": "main", "env": env, "volumeMounts": [mine]}]))["spec"]["containers"]
    found = environment(container)
    assert found.items() >= own.items()
    assert set(found) == (set(ADDED) | set(own)) - absent
    assert container["volumeMounts"] == [mine, MOUNT]


def test_a_pod_that_was_patched_already_is_not_changed_again() -> None:
    assert pod_webhook.patch(patched(a_pod())) == []


def test_only_a_container_added_after_the_first_patch_is_changed() -> None:
    pod = patched(a_pod())
    pod["spec"]["containers"].append({"name": "sidecar"})
    assert [operation["path"] for operation in pod_webhook.patch(pod)] == ["/spec/containers/1"]


def test_containers_named_in_the_skip_annotation_are_not_changed() -> None:
    pod = a_pod(containers=[{"name": "main"}, {"name": "proxy"}])
    pod["metadata"]["annotations"] = {"eks.amazonaws.com/skip-containers": "other, proxy"}
    assert patched(pod)["spec"]["containers"][1] == {"name": "proxy"}


def test_the_webhook_changes_only_pods_with_an_association(aws: EmbeddedAws, webhook: Client) -> None:
    aws.cluster()
    wanted = {"clusterName": "demo", "namespace": "chat", "serviceAccount": "reader", "roleArn": aws.role()}
    association = aws.client("eks").create_pod_identity_association(**wanted)["association"]["associationId"]

    def answer(pod: dict[str, Any], namespace: str = "chat") -> dict[str, Any]:
        status, body = webhook.post("/pod-identity/demo?timeout=10s", json.dumps(a_review(pod, namespace)).encode())
        review = json.loads(body)
        assert (status, review["apiVersion"], review["kind"]) == (200, "admission.k8s.io/v1", "AdmissionReview")
        response: dict[str, Any] = review["response"]
        return response

    changed = answer(a_pod())
    assert (changed["uid"], changed["allowed"], changed["patchType"]) == ("u-1", True, "JSONPatch")
    assert json.loads(base64.b64decode(changed["patch"])) == pod_webhook.patch(a_pod())
    unchanged = {"uid": "u-1", "allowed": True}
    assert answer(a_pod(), "other") == unchanged
    assert answer(a_pod(serviceAccountName="writer")) == unchanged
    assert answer(a_pod(serviceAccountName="")) == unchanged
    aws.client("eks").delete_pod_identity_association(clusterName="demo", associationId=association)
    assert answer(a_pod()) == unchanged


def test_a_body_that_is_not_a_review_of_a_pod_is_a_bad_request(aws: EmbeddedAws, webhook: Client) -> None:
    aws.cluster()
    for body in (b"", b"[]", b"{}", b"null", b'{"request": null}', b'{"request": {"uid": "1", "namespace": "n", "object": null}}', b"\xff"):
        assert webhook.post("/pod-identity/demo", body)[0] == 400, body
    for path in ("/", "/pod-identity/", "/pod-identity/other", "/demo", "demo"):
        assert webhook.post(path, json.dumps(a_review(a_pod())).encode())[0] == 404, path


def test_the_webhook_survives_a_client_that_does_not_trust_it_or_sends_nothing(aws: EmbeddedAws, webhook: Client, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(webhook.port, Authority(tmp_path / "other", "ca")).post("/", b"")
    with socket.create_connection(("127.0.0.1", webhook.port)):  # without sending anything
        assert webhook.post("/", b"")[0] == 404


def test_the_webhooks_configuration_names_the_cluster_and_lets_pods_start_when_it_fails() -> None:
    (webhook,) = pod_webhook.configuration("demo", "PEM")["webhooks"]
    assert webhook["clientConfig"] == {"url": "https://10.213.0.2:4567/pod-identity/demo", "caBundle": base64.b64encode(b"PEM").decode()}
    assert (webhook["failurePolicy"], webhook["reinvocationPolicy"]) == ("Ignore", "IfNeeded")


USER = {
    "username": "system:serviceaccount:chat:reader",
    "extra": {"authentication.kubernetes.io/pod-name": ["p"], "authentication.kubernetes.io/pod-uid": ["u"]},
}
AUDIENCES = ["pods.eks.amazonaws.com"]


def test_a_token_review_names_the_pod() -> None:
    assert pod_tokens.read({"authenticated": True, "audiences": AUDIENCES, "user": USER}) == PodToken("chat", "reader", "p", "u")


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"authenticated": False, "audiences": AUDIENCES, "user": USER},
        {"authenticated": True, "user": USER},
        {"authenticated": True, "audiences": ["another"], "user": USER},
        {"authenticated": True, "audiences": AUDIENCES, "user": USER | {"extra": None}},
        {"authenticated": True, "audiences": AUDIENCES, "user": USER | {"username": "system:node:chat:reader"}},
    ],
    ids=str,
)
def test_a_token_review_of_an_invalid_token_or_of_one_without_a_pod_names_no_pod(status: dict[str, Any]) -> None:
    assert pod_tokens.read(status) is None
