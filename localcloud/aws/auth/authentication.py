"""Finds the credential that signed a request, for the endpoint's middleware and for the token review of EKS."""

from __future__ import annotations

from datetime import datetime

from localcloud.aws.auth import credentials, signatures
from localcloud.aws.auth.signatures import Claim, Refused, SignedRequest


def authenticate(claim: Claim, request: SignedRequest, now: datetime) -> credentials.Credential:
    """Return the credential that signed the request; `Refused` unless it is in force and the signature is right and recent."""
    credential = credentials.lookup(claim.access_key_id)
    if credential is None:
        raise Refused("InvalidClientTokenId", "the access key id is unknown here, inactive or expired")
    if claim.session_token != credential.session_token:
        raise Refused("InvalidClientTokenId", "the session token is not that of the access key")
    signatures.check_fresh(claim, now)
    signatures.check_signature(claim, request, credential.secret)
    return credential
