"""The key that every request to the model must carry: a Secret in each namespace with workers or clients."""

from __future__ import annotations

import base64

from pydantic import SecretStr

from drills.kubernetes import manifests, ownership
from drills.kubernetes.api import Api

NAME = "api-key"


def put(api: Api, namespace: str, key: SecretStr | None) -> None:
    """Set the key for pods that start in the namespace from now on; None: remove it."""
    if key is None:
        remove(api, namespace)
        return
    api.apply_all(manifests.load(NAME, {"namespace": namespace, "api_key": key.get_secret_value()}))


def remove(api: Api, namespace: str) -> None:
    """Remove the key from the namespace. Pods that run already keep it."""
    ownership.remove(api, _path(namespace))


def headers(api: Api, namespace: str) -> dict[str, str]:
    """Headers for requests to the model in that namespace. They are secret: never log them.

    The key is not in Authorization, because the API server consumes that header.
    """
    found = api.find(_path(namespace))
    return {"x-api-key": base64.b64decode(found["data"]["key"]).decode()} if found else {}


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{NAME}"
