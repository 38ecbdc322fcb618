"""The bearer token that EKS takes: a presigned STS GetCallerIdentity request, bound to one cluster.

The same as `aws eks get-token` makes. Whoever checks it sends the request on to STS, which says who signed it;
so the token holds no secret key, and is good for 15 minutes.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from botocore.model import ServiceId
from botocore.signers import RequestSigner

PREFIX = "k8s-aws-v1."
REFRESH_AFTER_S = 10 * 60.0
"""EKS refuses a token 15 minutes after its signing; a third is left for clocks that differ and for slow requests."""
SIGNATURE_S = 60
"""EKS does not take presigned requests that are valid for longer; it is not the token's lifetime."""


def token(session: Any, cluster: str, region: str, endpoint_url: str | None = None) -> str:
    """A fresh token for the cluster, signed with the credentials of a botocore session.

    Args:
        endpoint_url: Where STS is asked; None: AWS's endpoint of the region.
    """
    sts = (endpoint_url or f"https://sts.{region}.amazonaws.com").rstrip("/")
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


class FreshToken:
    """Calls `make` for a token, and again when the last one is older than REFRESH_AFTER_S."""

    def __init__(self, make: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._token, self._made = "", 0.0

    def __call__(self) -> str:
        """A token that is good for five minutes at least."""
        if not self._token or self._clock() - self._made > REFRESH_AFTER_S:
            self._token, self._made = self._make(), self._clock()
        return self._token
