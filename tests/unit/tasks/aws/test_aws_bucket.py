"""The bucket of state and evidence, and Redis's password."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from embedded_aws import EmbeddedAws

from blocks.parameters import NAME_MAX
from tasks.aws import account as kept

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A stack name that no other test uses, because buckets stay in the embedded S3."""
    return f"stack{next(_numbers)}"


def test_the_bucket_is_private_encrypted_and_versioned(aws: EmbeddedAws, name: str) -> None:
    bucket = kept.ensure_state_bucket(aws, name)
    s3 = aws.client("s3")
    assert bucket == f"leeward-{name}-123456789012-us-west-2"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_what_was_overwritten_goes_and_what_is_there_stays(aws: EmbeddedAws, name: str) -> None:
    bucket = kept.ensure_state_bucket(aws, name)
    (rule,) = aws.client("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert (rule["Status"], rule["Filter"]) == ("Enabled", {"Prefix": ""})
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rule["Expiration"] == {"ExpiredObjectDeleteMarker": True}, "no object expires"


def test_creating_the_bucket_again_keeps_its_objects_and_restores_its_protection(aws: EmbeddedAws, name: str) -> None:
    bucket = kept.ensure_state_bucket(aws, name)
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="terraform.tfstate", Body=b"state")
    s3.delete_public_access_block(Bucket=bucket)
    assert kept.ensure_state_bucket(aws, name) == bucket
    assert s3.get_object(Bucket=bucket, Key="terraform.tfstate")["Body"].read() == b"state"
    assert s3.get_public_access_block(Bucket=bucket)


class _OverTls:
    """Clients of an endpoint with TLS and prepared responses, which check the requests."""

    def __init__(self) -> None:
        session = boto3.Session("id", "secret", region_name="us-east-1")
        self.sts = session.client("sts", endpoint_url="https://aws.invalid")
        self.s3 = session.client("s3", endpoint_url="https://aws.invalid")
        self.expected = Stubber(self.s3)
        self._identity = Stubber(self.sts)
        self._identity.add_response("get_caller_identity", {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:role/r"})

    def __enter__(self) -> _OverTls:
        self.expected.activate()
        self._identity.activate()
        return self

    def __exit__(self, *_: object) -> None:
        self.expected.assert_no_pending_responses()

    def client(self, service_name: str, /) -> Any:
        return {"sts": self.sts, "s3": self.s3}[service_name]


def test_with_a_tls_endpoint_the_bucket_refuses_requests_without_tls() -> None:
    bucket = "leeward-tls-123456789012-us-east-1"
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    with _OverTls() as aws:
        aws.expected.add_client_error("head_bucket", "404", http_status_code=404)
        aws.expected.add_response("create_bucket", {}, {"Bucket": bucket})
        for protection in (
            "put_public_access_block",
            "put_bucket_encryption",
            "put_bucket_versioning",
            "put_bucket_lifecycle_configuration",
        ):
            aws.expected.add_response(protection, {})
        aws.expected.add_response("put_bucket_policy", {}, {"Bucket": bucket, "Policy": policy})
        assert kept.ensure_state_bucket(aws, "tls") == bucket


def test_the_longest_stack_name_fits_a_bucket_in_the_longest_region() -> None:
    assert len(f"leeward-{'n' * NAME_MAX}-123456789012-ap-southeast-7") == 63


@pytest.mark.parametrize("bad", ["Mistral", "a--b", "7b", "a_b", "a-", "", "a\n", "n" * (NAME_MAX + 1)])
def test_a_stack_name_that_makes_no_bucket_name_is_refused(aws: EmbeddedAws, bad: str) -> None:
    with pytest.raises(kept.NameRefused, match="at most 27 characters"):
        kept.state_bucket(aws, bad)


def test_a_bucket_that_was_never_created_does_not_exist(aws: EmbeddedAws, name: str) -> None:
    assert not kept.bucket_exists(aws, kept.state_bucket(aws, name))
    assert kept.bucket_exists(aws, kept.ensure_state_bucket(aws, name))


class _Closed:
    """Clients of an AWS in which every bucket belongs to another account."""

    def client(self, service_name: str, /) -> _Closed:
        return self

    def head_bucket(self, Bucket: str) -> None:
        answer = {"Error": {"Code": "403", "Message": "Forbidden"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "HeadBucket")  # type: ignore[arg-type]


def test_a_bucket_of_another_account_is_named_in_the_error(name: str) -> None:
    with pytest.raises(kept.BucketTaken, match="bucket theirs exists but is closed to us"):
        kept.bucket_exists(_Closed(), "theirs")


def test_the_redis_password_is_created_once_and_then_read(aws: EmbeddedAws, name: str) -> None:
    first = kept.redis_auth_token(aws, name)
    assert first.get_secret_value() == kept.redis_auth_token(aws, name).get_secret_value()
    assert re.fullmatch("[0-9a-f]{64}", first.get_secret_value())
    assert first.get_secret_value() not in repr(first)


def test_after_deletion_a_new_redis_password_is_created(aws: EmbeddedAws, name: str) -> None:
    first = kept.redis_auth_token(aws, name)
    kept.delete_redis_auth_token(aws, name)
    kept.delete_redis_auth_token(aws, name)
    assert kept.redis_auth_token(aws, name).get_secret_value() != first.get_secret_value()


def test_a_redis_password_that_is_being_deleted_is_a_transient_error(aws: EmbeddedAws, name: str) -> None:
    kept.redis_auth_token(aws, name)
    aws.client("secretsmanager").delete_secret(SecretId=f"leeward/{name}/redis-auth", RecoveryWindowInDays=7)
    with pytest.raises(kept.SecretDisappearing, match="try again"):
        kept.redis_auth_token(aws, name)


def test_a_folder_is_uploaded_with_its_paths_and_types(aws: EmbeddedAws, name: str, tmp_path: Path) -> None:
    bucket = kept.ensure_state_bucket(aws, name)
    (tmp_path / "debug").mkdir()
    (tmp_path / "report.html").write_text("<html>")
    (tmp_path / "debug/head.log").write_text("gone")
    addresses = kept.upload_folder(aws, bucket, "evidence/run-1/", tmp_path)
    assert addresses == (f"s3://{bucket}/evidence/run-1/debug/head.log", f"s3://{bucket}/evidence/run-1/report.html")
    assert aws.client("s3").head_object(Bucket=bucket, Key="evidence/run-1/report.html")["ContentType"].startswith("text/html")


def test_the_caller_identity_comes_from_sts(aws: EmbeddedAws) -> None:
    assert kept.caller_identity(aws) == kept.Caller("123456789012", "arn:aws:iam::123456789012:user/leeward", "us-west-2")


def test_a_log_group_that_eks_created_again_is_deleted(aws: EmbeddedAws, name: str) -> None:
    logs = aws.client("logs")
    logs.create_log_group(logGroupName=f"/aws/eks/{name}/cluster")
    kept.delete_cluster_logs(aws, name)
    kept.delete_cluster_logs(aws, name)
    assert logs.describe_log_groups(logGroupNamePrefix=f"/aws/eks/{name}/")["logGroups"] == []
