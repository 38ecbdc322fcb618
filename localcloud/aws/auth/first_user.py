"""The first principals of the embedded AWS: user `leeward`, which may do everything and assume role `leeward-pipeline`.

The role has the policy that users give to theirs on AWS, and no other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from moto.iam.models import IAMBackend

from localcloud import settings
from localcloud.aws import services
from localcloud.aws.auth import credentials

_ADMINISTRATOR = f"arn:{credentials.PARTITION}:iam::aws:policy/AdministratorAccess"
POLICY_OF_ROLE = Path(__file__).parents[3] / "terraform" / "pipeline-policy.json"
"""The policy that a user gives to the pipeline's role (docs/targets.md)."""


@dataclass(frozen=True)
class FirstUser:
    """The access key and the role with which the first client starts."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    role_arn: str


def create() -> FirstUser:
    """Extend moto by the embedded services, and create user and role where they are missing.

    The user gets one access key with a new secret; older keys are deleted. Call once, before the first client connects.
    """
    services.extend_moto()
    backend = credentials.iam()
    _ensure_user(backend)
    for old in list(backend.get_user(settings.USER).access_keys):
        backend.delete_access_key(old.access_key_id, settings.USER)
    key = backend.create_access_key(settings.USER)
    key.secret_access_key = credentials.random_secret(40)
    return FirstUser(key.access_key_id, key.secret_access_key, _ensure_role(backend))


def _ensure_user(backend: IAMBackend) -> None:
    if settings.USER not in backend.users:
        backend.create_user(settings.REGION, settings.USER)
        backend.attach_user_policy(_ADMINISTRATOR, settings.USER)


def _ensure_role(backend: IAMBackend) -> str:
    for role in backend.get_roles():
        if role.name == settings.ROLE:
            return role.arn
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": settings.USER_ARN}}],
    }
    role = backend.create_role(settings.ROLE, json.dumps(trust), "/", None, "Acts for the pipeline", [], "43200")
    backend.put_role_policy(settings.ROLE, "pipeline", POLICY_OF_ROLE.read_text(encoding="utf-8"))
    return role.arn
