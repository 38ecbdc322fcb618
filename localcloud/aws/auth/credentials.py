"""The credential behind an access key id, as the embedded IAM and STS have it."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field
from datetime import datetime

from moto.core.utils import utcnow
from moto.iam.models import IAMBackend, iam_backends
from moto.sts.models import AssumedRole, sts_backends

from localcloud import settings

PARTITION = "aws"
_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Credential:
    """An access key that is in force, and its principal."""

    access_key_id: str
    secret: str = field(repr=False)
    arn: str
    """As GetCallerIdentity tells it: a user, or an assumed-role session."""
    user_id: str
    session_token: str | None = field(default=None, repr=False)
    session_name: str | None = None
    role_arn: str | None = None
    expires: datetime | None = None
    """UTC, without time zone, as moto keeps it; None for a user's key."""

    @property
    def principal_arn(self) -> str:
        """The IAM user or role behind it: what an access entry names."""
        return self.role_arn or self.arn


def iam() -> IAMBackend:
    """The account's IAM books."""
    return iam_backends[settings.ACCOUNT][PARTITION]


def random_secret(length: int) -> str:
    """Letters and digits from the system's generator: moto's own are not meant to be secret."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def lookup(access_key_id: str) -> Credential | None:
    """The key's credential; None when it was never issued, is inactive or has expired."""
    session = sts_backends[settings.ACCOUNT][PARTITION].get_assumed_role_from_access_key(access_key_id)
    if session is not None:
        return _of_session(session)
    for user in list(iam().users.values()):
        for key in user.access_keys:
            if key.access_key_id == access_key_id and key.status == "Active":
                return Credential(access_key_id, key.secret_access_key, user.arn, user.id)
    return None


def has_policies(credential: Credential) -> bool:
    """Whether anything allows it anything. A user's key stands for the account's owner; a session for its role as it is now."""
    if credential.role_arn is None:
        return True
    role = next((role for role in list(iam().roles.values()) if role.arn == credential.role_arn), None)
    return role is not None and bool(role.policies or role.managed_policies)


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
        expires=session.expiration,
    )
