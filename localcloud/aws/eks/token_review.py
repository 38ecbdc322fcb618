"""The TokenReview of EKS bearer tokens: it finds the token's Kubernetes user by signature and access entry.

A token is a presigned STS GetCallerIdentity with the cluster's name among the signed headers. The code that guards STS
checks the signature, without calling the URL in the token, so a token cannot direct a call to another host.
"""

from __future__ import annotations

import base64
import binascii
import logging
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from localcloud import settings
from localcloud.aws.auth import credentials, signatures
from localcloud.aws.auth.credentials import Credential
from localcloud.aws.auth.signatures import Refused, SignedRequest
from localcloud.aws.eks import access, models

log = logging.getLogger(__name__)

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
_MAX_TOKEN = 16 * 1024
_PARAMETERS = {
    "Action",
    "Version",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
}


class NotAuthenticated(Exception):
    """The token belongs to no user of the cluster; the text gives the reason."""


def review(token: str, cluster: str, hosts: frozenset[str], now: datetime | None = None) -> dict[str, Any]:
    """Return the answered TokenReview. `hosts` are the "address:port" of the embedded STS."""
    try:
        status = {"authenticated": True, "user": _user(token, cluster, hosts, now or datetime.now(UTC))}
    except (NotAuthenticated, Refused) as refused:
        log.info("token for cluster %s refused: %s", cluster, refused)
        status = {"authenticated": False, "error": str(refused)}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}


def _user(token: str, cluster_name: str, hosts: frozenset[str], now: datetime) -> dict[str, Any]:
    cluster = models.find_cluster(cluster_name)
    if cluster is None:
        raise NotAuthenticated(f"there is no cluster {cluster_name}")
    credential = _caller(token, cluster_name, hosts, now)
    subject = access.subject(cluster, credential.principal_arn, credential.session_name)
    if subject is None:
        raise NotAuthenticated(f"{credential.arn}: cluster {cluster_name} has no access entry for {credential.principal_arn}")
    return {
        "username": subject.username,
        "uid": f"aws-iam-authenticator:{settings.ACCOUNT}:{credential.user_id.partition(':')[0]}",
        "groups": list(subject.groups),
        "extra": _extra(credential),
    }


def _extra(credential: Credential) -> dict[str, list[str]]:
    return {
        "accessKeyId": [credential.access_key_id],
        "arn": [credential.arn],
        "canonicalArn": [credential.principal_arn],
        "principalId": [credential.user_id.partition(":")[0]],
        "sessionName": [credential.session_name or ""],
    }


def _caller(token: str, cluster: str, hosts: frozenset[str], now: datetime) -> Credential:
    """Return the credential that signed the token for this cluster."""
    url = _url(token)
    _check_request(url, hosts)
    claim = signatures.claim_from_query(url.query)
    if claim.service != "sts":
        raise NotAuthenticated("the token is not signed for STS")
    if set(claim.signed_headers) != {"host", CLUSTER_HEADER}:
        raise NotAuthenticated(f"the token must sign the headers host and {CLUSTER_HEADER}, and no others")
    request = SignedRequest(
        method="GET",
        path=url.path or "/",
        query=url.query,
        headers={"host": url.netloc, CLUSTER_HEADER: cluster},
        payload_hash=signatures.EMPTY_BODY,
    )
    return credentials.authenticate(claim, request, now)


def _url(token: str) -> SplitResult:
    if not token.startswith(PREFIX) or len(token) > _MAX_TOKEN:
        raise NotAuthenticated(f"not an EKS token: it must begin with {PREFIX} and be at most {_MAX_TOKEN} characters long")
    encoded = token.removeprefix(PREFIX)
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode("ascii")
        return urlsplit(decoded)
    except (binascii.Error, ValueError):
        raise NotAuthenticated("not an EKS token: what follows the prefix is not a URL in base64") from None


def _check_request(url: SplitResult, hosts: frozenset[str]) -> None:
    """Refuse a URL that is not a GetCallerIdentity of this STS, or that contains more."""
    if url.scheme not in ("http", "https") or url.netloc not in hosts:
        raise NotAuthenticated(f"the token is for {url.scheme}://{url.netloc}, not for the embedded STS at {', '.join(sorted(hosts))}")
    pairs = parse_qsl(url.query, keep_blank_values=True)
    values = dict(pairs)
    if url.path not in ("", "/") or url.fragment or len(values) != len(pairs) or set(values) - _PARAMETERS:
        raise NotAuthenticated("the token's URL contains more than a GetCallerIdentity needs")
    if values.get("Action") != "GetCallerIdentity":
        raise NotAuthenticated("the token's action is not GetCallerIdentity")
