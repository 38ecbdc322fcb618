"""The policies that decide for a principal: its own, those of its groups, and those that limit it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moto.iam.models import ManagedPolicy

from localcloud.aws.auth import credentials
from localcloud.aws.auth.credentials import Credential
from localcloud.aws.authorization.policies import Document


@dataclass(frozen=True)
class Policies:
    """The documents that allow, and by their kind the documents each of which must allow besides."""

    identity: tuple[Document, ...]
    limits: Mapping[str, tuple[Document, ...]]


def policies_of(credential: Credential) -> Policies:
    """The policies of the credential's user or role. A principal that no longer exists has none."""
    backend = credentials.iam()
    limits: dict[str, tuple[Document, ...]] = {}
    if credential.session_policy:
        limits["session policy"] = (document(credential.session_policy),)
    if credential.role_arn is None:
        user = next((user for user in list(backend.users.values()) if user.arn == credential.arn), None)
        groups = [group for group in list(backend.groups.values()) if user in group.users] if user else []
        return Policies(tuple(_documents([user, *groups] if user else [])), limits)
    role = next((role for role in list(backend.roles.values()) if role.arn == credential.role_arn), None)
    if role is not None and role.permissions_boundary_arn:
        boundary = backend.managed_policies.get(role.permissions_boundary_arn)
        limits["permissions boundary"] = (_of_managed(boundary),) if boundary else ()
    return Policies(tuple(_documents([role] if role else [])), limits)


def document(value: Any) -> Document:
    """The policy document, which moto keeps as text or parsed."""
    read: Document = json.loads(value) if isinstance(value, str) else value
    return read


def _documents(holders: Iterable[Any]) -> Iterator[Document]:
    for holder in holders:
        yield from (document(each) for each in list(holder.policies.values()))
        yield from (_of_managed(each) for each in list(holder.managed_policies.values()))


def _of_managed(policy: ManagedPolicy) -> Document:
    default = next(version for version in policy.versions if version.version_id == policy.default_version_id)
    return document(default.document)
