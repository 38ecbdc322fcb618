"""The credential that signed a request, from the state of the embedded IAM and STS."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field
from datetime import datetime

from moto.core.utils import utcnow
from moto.iam.models import IAMBackend, iam_backends
from moto.sts.models import AssumedRole, sts_backends

from localcloud import settings
from localcloud.aws.auth import signatures
from localcloud.aws.auth.signatures import Claim, Refused, SignedRequest

PARTITION = "aws"
_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Credential:
    """An access key that is in force, and its principal."""

    access_key_id: str
    secret: str = field(repr=False)
    arn: str
    """ARN in GetCallerIdentity's form: of a user, or of an assumed-role session."""
    user_id: str
    session_token: str | None = field(default=None, repr=False)
    session_name: str | None = None
    role_arn: str | None = None
    session_policy: str | None = None
    """Policy that was given when the role was assumed, and that limits the session; None when there was none."""
    expires: datetime | None = None
    """Expiry in UTC, without time zone, as moto keeps it; None for a user's key."""

    @property
    def principal_arn(self) -> str:
        """ARN of the IAM user or role behind the credential, which is what an access entry names."""
        return self.role_arn or self.arn


def iam() -> IAMBackend:
    """Moto's IAM backend of the account."""
    return iam_backends[settings.ACCOUNT][PARTITION]


def random_secret(length: int) -> str:
    """Random letters and digits from the system's generator; moto's own secrets can be predicted."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def lookup(access_key_id: str) -> Credential | None:
    """Return the key's credential; None when the key was never issued, is inactive or has expired."""
    session = sts_backends[settings.ACCOUNT][PARTITION].get_assumed_role_from_access_key(access_key_id)
    if session is not None:
        return _of_session(session)
    for user in list(iam().users.values()):
        for key in user.access_keys:
            if key.access_key_id == access_key_id and key.status == "Active":
                return Credential(access_key_id, key.secret_access_key, user.arn, user.id)
    return None


def authenticate(claim: Claim, request: SignedRequest, now: datetime) -> Credential:
    """Return the credential that signed the request; `Refused` unless it is in force and the signature is right and recent."""
    credential = lookup(claim.access_key_id)
    if credential is None:
        raise Refused("InvalidClientTokenId", "the access key id is unknown here, inactive or expired")
    if claim.session_token != credential.session_token:
        raise Refused("InvalidClientTokenId", "the session token is not that of the access key")
    signatures.check_age(claim, now)
    signatures.check_signature(claim, request, credential.secret)
    return credential


def _of_session(session: AssumedRole) -> Credential | None:
    if session.expiration <= utcnow():
        return None
    return Credential(
        access_key_id=session.access_key_id,
        secret=session.secret_access_key,
        arn=session.arn,
        user_id=session.user_id,
        session_token=session.session_token,
        session_name=session.session_name,
        role_arn=session.role_arn,
        session_policy=session.policy or None,
        expires=session.expiration,
    )
