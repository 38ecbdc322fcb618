"""Signature Version 4: what botocore signs is accepted, and what was altered after signing is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from localcloud.aws.auth import signatures
from localcloud.aws.auth.signatures import Claim, Refused, SignedRequest

SECRET = "secret"
PATH, QUERY = "/a%20b/%C3%BC%2Bc~d", "b=2&a=1&a=0&empty=&c=x%20y%2Fz"


def signed(service: str) -> tuple[Claim, SignedRequest]:
    """Sign a request with botocore; return it with the claim that it makes."""
    request = AWSRequest("PUT", f"http://127.0.0.1:4566{PATH}?{QUERY}", {"X-Note": " two   words "}, b"body")
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(Credentials("AKIAIOSFODNN7EXAMPLE", SECRET), service, "us-west-2").add_auth(request)
    headers = {"host": "127.0.0.1:4566"} | {name.lower(): value for name, value in request.headers.items()}
    return signatures.claim_from_header(headers), SignedRequest("PUT", PATH, QUERY, headers, hashlib.sha256(b"body").hexdigest())


@pytest.mark.parametrize("service", ["eks", "s3"])
def test_a_request_signed_by_botocore_is_accepted_with_its_secret_only(service: str) -> None:
    claim, request = signed(service)
    signatures.check_age(claim, datetime.now(UTC))
    signatures.check_signature(claim, request, SECRET)
    with pytest.raises(Refused, match="does not match"):
        signatures.check_signature(claim, request, "another")


@pytest.mark.parametrize(
    "alter",
    [
        lambda request: replace(request, method="GET"),
        lambda request: replace(request, path=request.path + "/"),
        lambda request: replace(request, query=QUERY + "&d=1"),
        lambda request: replace(request, query=QUERY.replace("&a=0", "")),
        lambda request: replace(request, headers=request.headers | {"x-note": "other words"}),
        lambda request: replace(request, headers={name: value for name, value in request.headers.items() if name != "x-note"}),
        lambda request: replace(request, payload_hash=hashlib.sha256(b"other body").hexdigest()),
    ],
    ids=["method", "path", "parameter added", "repeated parameter removed", "header", "header removed", "body"],
)
@pytest.mark.parametrize("service", ["eks", "s3"])
def test_an_altered_request_is_refused(service: str, alter: Callable[[SignedRequest], SignedRequest]) -> None:
    claim, request = signed(service)
    with pytest.raises(Refused, match="does not match"):
        signatures.check_signature(claim, alter(request), SECRET)


@pytest.mark.parametrize(("age", "code"), [(16, "RequestExpired"), (-16, "RequestTimeTooSkewed")])
def test_a_request_from_another_time_is_refused(age: int, code: str) -> None:
    claim, _ = signed("eks")
    with pytest.raises(Refused) as refused:
        signatures.check_age(claim, datetime.now(UTC) + timedelta(minutes=age))
    assert refused.value.code == code
