"""EKS tokens have the form that EKS accepts, are bound to one cluster, and are renewed in time."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from blocks.eks_token import REFRESH_AFTER_S, FreshToken, sts_url, token


def presigned(cluster: str = "leeward", endpoint: str | None = None) -> str:
    session = boto3.Session(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret", region_name="us-west-2")
    made = token(session._session, cluster, "us-west-2", endpoint)
    assert made.startswith("k8s-aws-v1.")
    body = made.removeprefix("k8s-aws-v1.")
    assert "=" not in body
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()


def test_a_token_is_a_presigned_get_caller_identity_of_the_region() -> None:
    url = urlsplit(presigned())
    query = parse_qs(url.query)
    assert url.hostname == "sts.us-west-2.amazonaws.com"
    assert query["Action"] == ["GetCallerIdentity"]
    assert query["X-Amz-Expires"] == ["60"]
    assert query["X-Amz-Credential"][0].endswith("/us-west-2/sts/aws4_request")


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("us-east-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("us-iso-east-1", "c2s.ic.gov"),
    ],
)
def test_a_token_is_signed_for_the_domain_of_the_regions_partition(region: str, domain: str) -> None:
    assert sts_url(boto3.Session()._session, region) == f"https://sts.{region}.{domain}"


def test_the_cluster_is_part_of_what_is_signed() -> None:
    query = parse_qs(urlsplit(presigned()).query)
    assert query["X-Amz-SignedHeaders"] == ["host;x-k8s-aws-id"]
    assert presigned("one").split("X-Amz-Signature=")[1] != presigned("two").split("X-Amz-Signature=")[1]


def test_a_token_for_a_custom_endpoint_is_signed_for_that_endpoint() -> None:
    assert presigned(endpoint="http://10.213.0.2:4566/").startswith("http://10.213.0.2:4566/?Action=")


def test_the_secret_is_not_in_the_token() -> None:
    assert "secret" not in presigned()


def test_a_token_is_reused_until_it_is_too_old() -> None:
    now, made = [0.0], []

    def make() -> str:
        made.append(now[0])
        return f"token {len(made)}"

    fresh = FreshToken(make, clock=lambda: now[0])
    assert [fresh(), fresh()] == ["token 1", "token 1"]
    now[0] = REFRESH_AFTER_S - 1
    assert fresh() == "token 1"
    now[0] = REFRESH_AFTER_S + 1
    assert fresh() == "token 2"
    assert REFRESH_AFTER_S < 15 * 60
