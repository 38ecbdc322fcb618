"""The endpoint of the embedded AWS: signatures, presigned requests, and what is refused."""

from __future__ import annotations

import base64
import json
import socket
import urllib.error
import urllib.request
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws, eks_token, session_of

from localcloud import settings
from localcloud.aws import server


def _code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def _status(url: str) -> int:
    """Status of a GET that is not signed, unless the URL is presigned."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def _presigned(aws: EmbeddedAws, session: boto3.Session, accept: str = "*/*") -> tuple[int, str]:
    """Send the request that is encoded in an EKS token; return its status and body."""
    token = eks_token(session, "demo", aws.endpoint.url).removeprefix("k8s-aws-v1.")
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    request = urllib.request.Request(url, headers={"x-k8s-aws-id": "demo", "Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_the_first_user_may_assume_the_pipelines_role(aws: EmbeddedAws) -> None:
    assert aws.client("sts").get_caller_identity()["Arn"] == settings.USER_ARN
    session = aws.assume(settings.ROLE_ARN, "run")
    assert aws.client("sts", session).get_caller_identity()["Arn"].endswith(f"assumed-role/{settings.ROLE}/run")


def test_a_role_is_assumed_only_by_a_principal_that_it_trusts(aws: EmbeddedAws) -> None:
    stranger = aws.assume(aws.role())
    for arn, session in ((settings.ROLE_ARN, stranger), (f"arn:aws:iam::{settings.ACCOUNT}:role/nobody", aws.session)):
        with pytest.raises(ClientError) as error:
            aws.assume(arn, session=session)
        assert _code(error) == "AccessDenied"


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("ec2", "describe_vpcs", "UnauthorizedOperation"),
        ("eks", "list_clusters", "AccessDeniedException"),
        ("iam", "list_roles", "AccessDenied"),
        ("s3", "list_buckets", "AccessDenied"),
    ],
)
def test_a_role_without_any_policy_may_do_nothing_and_running_sessions_are_refused_at_once(
    aws: EmbeddedAws, service: str, call: str, code: str
) -> None:
    iam, arn = aws.client("iam"), aws.role()
    name, session = arn.rpartition("/")[2], aws.assume(arn)

    def refused() -> None:
        with pytest.raises(ClientError) as error:
            getattr(aws.client(service, session), call)()
        assert _code(error) == code
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert name in str(error.value)

    refused()
    assert name in aws.client("sts", session).get_caller_identity()["Arn"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=policy)
    getattr(aws.client(service, session), call)()
    iam.delete_role_policy(RoleName=name, PolicyName="all")
    refused()
    iam.delete_role(RoleName=name)
    refused()


@pytest.mark.parametrize(
    ("service", "call"), [("sts", "get_caller_identity"), ("ec2", "describe_vpcs"), ("eks", "list_clusters"), ("s3", "list_buckets")]
)
@pytest.mark.parametrize("known", [True, False], ids=["wrong secret", "unknown key"])
def test_a_key_that_was_not_issued_is_refused_in_every_protocol(aws: EmbeddedAws, service: str, call: str, known: bool) -> None:
    session = session_of(aws.first.access_key_id if known else "AKIAIOSFODNN7EXAMPLE", "wrong")
    with pytest.raises(ClientError) as error:
        getattr(aws.client(service, session), call)()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    expected = {"sts": "InvalidClientTokenId", "ec2": "AuthFailure", "eks": "UnrecognizedClientException", "s3": "InvalidAccessKeyId"}
    signature = {"ec2": "AuthFailure", "eks": "InvalidSignatureException"}
    assert _code(error) == (signature.get(service, "SignatureDoesNotMatch") if known else expected[service])


def test_a_request_without_a_signature_is_refused(aws: EmbeddedAws) -> None:
    for path in ("/", "/clusters", "/moto-api/reset", "/moto-api/data.json", "/latest/meta-data/"):
        assert _status(aws.endpoint.url + path) == 403, path


def test_a_signature_is_right_when_names_need_encoding(aws: EmbeddedAws) -> None:
    s3, key = aws.client("s3"), "a b/ü+c~d=e&f%20.txt"
    s3.create_bucket(Bucket="names", CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    s3.put_object(Bucket="names", Key=key, Body=b"here")
    assert s3.get_object(Bucket="names", Key=key)["Body"].read() == b"here"
    newer = aws.session.client("s3", endpoint_url=aws.endpoint.url, config=Config(signature_version="s3v4"))
    url = newer.generate_presigned_url("get_object", Params={"Bucket": "names", "Key": key})
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"here"
    assert _status(url.replace("X-Amz-Signature=", "X-Amz-Signature=0")) == 403


def test_other_requests_are_answered_while_an_objects_body_is_received(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    callers: list[str] = []
    original = aws.endpoint._application

    class Slow:
        """A body during whose every read another request is made and answered."""

        def __init__(self, body: Any) -> None:
            self._body = body

        def read(self, size: int) -> bytes:
            callers.append(aws.client("sts").get_caller_identity()["Arn"])
            return bytes(self._body.read(size))

    def application(environ: Any, start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"] == "/slow/key":
            environ["wsgi.input"] = Slow(environ["wsgi.input"])
        return original(environ, start_response)

    s3 = aws.client("s3")
    s3.create_bucket(Bucket="slow", CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    monkeypatch.setattr(aws.endpoint, "_application", application)
    s3.put_object(Bucket="slow", Key="key", Body=b"here")
    assert settings.USER_ARN in callers
    assert s3.get_object(Bucket="slow", Key="key")["Body"].read() == b"here"


def test_a_large_object_arrives_whole_and_a_chunked_body_is_refused(aws: EmbeddedAws) -> None:
    s3, large = aws.client("s3"), b"0123456789abcdef" * 200_000
    s3.create_bucket(Bucket="large", CreateBucketConfiguration={"LocationConstraint": settings.REGION})
    s3.put_object(Bucket="large", Key="key", Body=large)
    assert s3.get_object(Bucket="large", Key="key")["Body"].read() == large
    newer = aws.session.client("s3", endpoint_url=aws.endpoint.url, config=Config(signature_version="s3v4"))
    url = newer.generate_presigned_url("put_object", Params={"Bucket": "large", "Key": "chunks"})
    with pytest.raises(urllib.error.HTTPError, match="411") as refused:
        urllib.request.urlopen(urllib.request.Request(url, iter([b"here"]), method="PUT"), timeout=60)
    refused.value.close()
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="large")["Contents"]] == ["key"]


def test_the_connection_of_a_client_that_stops_within_its_request_is_closed(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server._QuietHandler.timeout == 60
    monkeypatch.setattr(server._QuietHandler, "timeout", 0.1)
    with socket.create_connection((aws.endpoint.host, aws.endpoint.port), timeout=60) as client:
        client.sendall(b"PUT /bucket/key HTTP/1.1\r\nHost: ")
        assert client.recv(1) == b""


def test_a_presigned_get_caller_identity_is_answered_and_in_json_if_asked_for(aws: EmbeddedAws) -> None:
    status, xml = _presigned(aws, aws.session)
    assert status == 200
    assert f"<Arn>{settings.USER_ARN}</Arn>" in xml
    status, answer = _presigned(aws, aws.session, "application/json")
    result = json.loads(answer)["GetCallerIdentityResponse"]["GetCallerIdentityResult"]
    assert (status, result["Arn"], result["Account"]) == (200, settings.USER_ARN, settings.ACCOUNT)


def test_a_presigned_get_caller_identity_with_a_wrong_secret_is_refused(aws: EmbeddedAws) -> None:
    wrong = session_of(aws.first.access_key_id, "wrong")
    for accept in ("*/*", "application/json"):
        assert _presigned(aws, wrong, accept)[0] == 403


@pytest.mark.parametrize(
    ("service", "call"),
    [("ec2", "describe_verified_access_groups"), ("elasticache", "describe_events"), ("apprunner", "list_services"), ("ssm", "list_nodes")],
)
def test_an_unsupported_operation_is_refused_at_once_and_named(aws: EmbeddedAws, service: str, call: str) -> None:
    with pytest.raises(ClientError, match="embedded cloud") as error:
        getattr(aws.client(service), call)()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_the_endpoint_answers_health_and_refuses_unknown_routes(aws: EmbeddedAws) -> None:
    assert aws.get("health") == {"ok": True}
    assert _status(f"{aws.endpoint.url}/localcloud/nothing") == 404


def test_every_region_but_one_is_refused(aws: EmbeddedAws) -> None:
    elsewhere = aws.session.client("ec2", region_name="eu-central-1", endpoint_url=aws.endpoint.url)
    with pytest.raises(ClientError, match="one region, us-west-2"):
        elsewhere.describe_vpcs()
    assert (
        aws.session.client("sts", region_name="us-east-1", endpoint_url=aws.endpoint.url).get_caller_identity()["Arn"] == settings.USER_ARN
    )


def test_get_session_token_is_refused_because_its_key_would_be_public(aws: EmbeddedAws) -> None:
    with pytest.raises(ClientError, match="assume a role"):
        aws.client("sts").get_session_token()
