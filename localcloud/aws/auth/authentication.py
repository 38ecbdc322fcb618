"""Finds the credential that signed a request, for the endpoint's middleware and for the token review of EKS."""

from __future__ import annotations

from datetime import datetime

from localcloud.aws.auth import credentials, signatures
from localcloud.aws.auth.signatures import Claim, Refused, SignedRequest


def authentic(claim: Claim, request: SignedRequest, now: datetime) -> credentials.Credential:
    """The credential that made the claim about this request; `Refused` when none in force did."""
    credential = credentials.lookup(claim.access_key_id)
    if credential is None:
        raise Refused("InvalidClientTokenId", "the access key id is unknown here, inactive or expired")
    if claim.session_token != credential.session_token:
        raise Refused("InvalidClientTokenId", "the session token is not that of the access key")
    signatures.check_fresh(claim, now)
    signatures.check(claim, request, credential.secret)
    return credential
