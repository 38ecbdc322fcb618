"""What the pipeline keeps in AWS outside Terraform: the bucket of state and evidence, and the password of Redis.

Every function takes a maker of boto3 clients: a `boto3.Session`, or a target, which adds its endpoint.
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError
from pydantic import SecretStr

from blocks.errors import Permanent, Transient
from blocks.parameters import NAME_MAX, NAME_PATTERN
from tasks.terraform.lock import HeldLock

STATE_KEY = "terraform.tfstate"
"""Key of Terraform's state in its bucket; the lock is beside it."""
_AUTH_TOKEN_BYTES = 32


class Clients(Protocol):
    """Makes boto3 clients that know their region, credentials and endpoint."""

    def client(self, service_name: str, /) -> Any:
        """A boto3 client of the service."""


class NameRefused(Permanent):
    """AWS does not accept the stack's name."""


class BucketTaken(Permanent):
    """The bucket's name belongs to another AWS account."""


class SecretDisappearing(Transient):
    """A secret of this name is being deleted; the name is free in a moment."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity behind the credentials, as STS reports it."""

    account: str
    arn: str
    region: str


def caller_identity(session: Clients) -> Caller:
    """Account and principal of the credentials, and the region they are used in."""
    sts = session.client("sts")
    identity = sts.get_caller_identity()
    return Caller(identity["Account"], identity["Arn"], sts.meta.region_name)


def state_bucket(session: Clients, name: str) -> str:
    """Name of the bucket of stack `name` in this account and region, whether it exists or not.

    Raises:
        NameRefused: no such bucket can exist.
    """
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > NAME_MAX:
        raise NameRefused(f"{name!r} cannot be a stack's name: it must match {NAME_PATTERN} and have at most {NAME_MAX} characters")
    caller = caller_identity(session)
    return f"leeward-{name}-{caller.account}-{caller.region}"


def bucket_exists(session: Clients, bucket: str) -> bool:
    """Whether the bucket exists.

    Raises:
        BucketTaken: it exists, and these credentials may not read it.
    """
    try:
        session.client("s3").head_bucket(Bucket=bucket)
    except ClientError as refused:
        status = refused.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            return False
        if status in (301, 403):
            raise BucketTaken(
                f"bucket {bucket} exists but is closed to us ({refused}); if it belongs to another account, choose another name"
            ) from refused
        raise
    return True


def state_lock(session: Clients, bucket: str) -> HeldLock | None:
    """Terraform's lock on the state; None: it is not locked.

    Raises:
        ValueError: the lock object has another format.
    """
    s3 = session.client("s3")
    try:
        stored = s3.get_object(Bucket=bucket, Key=f"{STATE_KEY}.tflock")["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None
    return HeldLock.from_stored(stored.decode(errors="replace"))


def ensure_state_bucket(session: Clients, name: str) -> str:
    """Create the bucket of stack `name` if needed: private, encrypted, versioned, TLS only if the endpoint has TLS. Returns its name.

    It is kept when the stack is destroyed.
    """
    bucket = state_bucket(session, name)
    s3 = session.client("s3")
    if not bucket_exists(session, bucket):
        region = s3.meta.region_name
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):  # another run of this account was faster
            s3.create_bucket(Bucket=bucket, **place)
    _protect(s3, bucket)
    return bucket


_OVERWRITTEN = {
    "ID": "overwritten",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 90},
    "Expiration": {"ExpiredObjectDeleteMarker": True},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}
"""What was overwritten or deleted goes after 90 days, and uploads that never ended after a week. Nothing else goes by its age: models and
graphs that were stored long ago are loaded by every worker that starts."""


def _protect(s3: Any, bucket: str) -> None:
    """Set every protection. Each call replaces the whole setting, so running it again reverts manual changes."""
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
    )
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [_OVERWRITTEN]})
    if s3.meta.endpoint_url.startswith("https:"):  # without TLS the policy would lock out the pipeline itself
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(_tls_only(bucket, s3.meta.partition)))


def _tls_only(bucket: str, partition: str) -> dict[str, Any]:
    arn = f"arn:{partition}:s3:::{bucket}"
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def redis_auth_token(session: Clients, name: str) -> SecretStr:
    """The password of stack `name`'s Redis: created at the first call, the same at every later one.

    Raises:
        SecretDisappearing: an earlier secret of this name is still being deleted.
    """
    manager = session.client("secretsmanager")
    secret = _secret_name(name)
    # Letters and digits only: ElastiCache accepts few other characters in a token.
    token = secrets.token_hex(_AUTH_TOKEN_BYTES)
    try:
        # Created first and read then: who may read secrets by name only is refused a secret that does not exist.
        with suppress(manager.exceptions.ResourceExistsException):
            manager.create_secret(
                Name=secret,
                SecretString=token,
                Description=f"AUTH token of the Redis of {name}",
                Tags=[{"Key": "leeward:name", "Value": name}],
            )
            return SecretStr(token)
        return SecretStr(manager.get_secret_value(SecretId=secret)["SecretString"])
    except manager.exceptions.InvalidRequestException as deleting:
        raise SecretDisappearing(f"secret {secret} is being deleted; try again in a minute") from deleting


def delete_redis_auth_token(session: Clients, name: str) -> None:
    """Delete the password without a recovery period, so that its name is free at once."""
    manager = session.client("secretsmanager")
    try:
        manager.delete_secret(SecretId=_secret_name(name), ForceDeleteWithoutRecovery=True)
    except manager.exceptions.ResourceNotFoundException:
        pass
    except ClientError as refused:
        # A secret that does not exist has no ARN that a policy could allow, so AWS refuses instead of saying that it is missing.
        if refused.response["Error"]["Code"] != "AccessDeniedException" or _secret_is_listed(manager, _secret_name(name)):
            raise


def _secret_is_listed(manager: Any, secret: str) -> bool:
    pages = manager.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [secret]}])
    return any(each["Name"] == secret for page in pages for each in page["SecretList"])


def _secret_name(name: str) -> str:
    return f"leeward/{name}/redis-auth"


def delete_cluster_logs(session: Clients, name: str) -> None:
    """Delete the control plane's log group. EKS creates it again if the cluster's last lines arrive after Terraform deleted it."""
    logs = session.client("logs")
    with suppress(logs.exceptions.ResourceNotFoundException):
        logs.delete_log_group(logGroupName=f"/aws/eks/{name}/cluster")


def upload_folder(session: Clients, bucket: str, prefix: str, folder: Path) -> tuple[str, ...]:
    """Upload every file under `folder` to the bucket, under `prefix` and its relative path; returns their s3:// addresses."""
    s3 = session.client("s3")
    addresses = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        key = f"{prefix.strip('/')}/{path.relative_to(folder).as_posix()}"
        s3.upload_file(str(path), bucket, key, ExtraArgs={"ContentType": _content_type(path)})
        addresses.append(f"s3://{bucket}/{key}")
    return tuple(addresses)


def _content_type(path: Path) -> str:
    types = {
        ".html": "text/html; charset=utf-8",
        ".json": "application/json",
        ".xml": "application/xml",
        ".jsonl": "text/plain; charset=utf-8",
    }
    return types.get(path.suffix, "text/plain; charset=utf-8" if path.suffix in (".txt", ".log") else "application/octet-stream")
