"""The token that Ray's processes, and clients of its dashboard, must show: a Secret that the Ray clusters of a namespace share."""

from __future__ import annotations

import secrets

from drills.kubernetes import manifests, ownership
from drills.kubernetes.api import Api

NAME = "ray-token"


def ensure(api: Api, namespace: str) -> None:
    """Create the token if there is none. One that exists stays, because the pods that run have it."""
    if api.find(_path(namespace)) is None:
        api.apply_all(manifests.load(NAME, {"namespace": namespace, "ray_token": secrets.token_urlsafe(32)}))


def remove(api: Api, namespace: str) -> None:
    """Remove the token from the namespace."""
    ownership.remove(api, _path(namespace))


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{NAME}"
