"""The bearer token that EKS accepts: a presigned STS GetCallerIdentity request, bound to one cluster.

It is the token that `aws eks get-token` makes. The API server forwards the request to STS, which returns the identity that
signed it. So the token holds no secret key. It is valid for 15 minutes.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from botocore.config import Config
from botocore.model import ServiceId
from botocore.signers import RequestSigner

PREFIX = "k8s-aws-v1."
REFRESH_AFTER_S = 10 * 60.0
"""Seconds until a token is replaced. EKS refuses one 15 minutes after it was signed; a third of that is left for clock skew and slow
requests."""
SIGNATURE_S = 60
"""Validity of the presigned request in seconds: the longest that EKS accepts. It is not the lifetime of the token."""


def token(session: Any, cluster: str, region: str, endpoint_url: str | None = None) -> str:
    """A fresh token for the cluster, signed with the credentials of a botocore session.

    Args:
        endpoint_url: Endpoint of STS; None: AWS's own for the region.
    """
    sts = (endpoint_url or sts_url(session, region)).rstrip("/")
    signer = RequestSigner(ServiceId("sts"), region, "sts", "v4", session.get_credentials(), session.get_component("event_emitter"))
    request = {
        "method": "GET",
        "url": f"{sts}/?Action=GetCallerIdentity&Version=2011-06-15",
        "body": {},
        "headers": {"x-k8s-aws-id": cluster},
        "context": {},
    }
    url: str = signer.generate_presigned_url(request, region_name=region, expires_in=SIGNATURE_S, operation_name="")
    return PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def sts_url(session: Any, region: str) -> str:
    """Return the URL of STS in the region. Its domain is the partition's: China, GovCloud and others have domains of their own."""
    own = Config(ignore_configured_endpoint_urls=True)
    return str(session.create_client("sts", region_name=region, config=own).meta.endpoint_url)


class FreshToken:
    """Calls `make` for a token, and again when the last one is older than REFRESH_AFTER_S."""

    def __init__(self, make: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._token, self._made = "", 0.0

    def __call__(self) -> str:
        """A token that is valid for at least five more minutes."""
        if not self._token or self._clock() - self._made > REFRESH_AFTER_S:
            self._token, self._made = self._make(), self._clock()
        return self._token
