"""The key that every request to the model must know: a Secret in each namespace where one answers or asks."""

from __future__ import annotations

import base64

from pydantic import SecretStr

from tasks.kubernetes import manifests, ownership
from tasks.kubernetes.api import Api

NAME = "api-key"


def put(api: Api, namespace: str, key: SecretStr | None) -> None:
    """Pods that start in the namespace from now on know the key; None: they know none, also where there was one before."""
    if key is None:
        remove(api, namespace)
        return
    api.apply_all(manifests.load(NAME, {"namespace": namespace, "api_key": key.get_secret_value()}))


def remove(api: Api, namespace: str) -> None:
    """Pods that start in the namespace from now on know no key of ours."""
    ownership.remove(api, _path(namespace))


def headers(api: Api, namespace: str) -> dict[str, str]:
    """What a request of ours to the model in that namespace must carry. A secret: never log it.

    Not as Authorization, which is for the API server and goes no further.
    """
    found = api.find(_path(namespace))
    return {"x-api-key": base64.b64decode(found["data"]["key"]).decode()} if found else {}


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{NAME}"
