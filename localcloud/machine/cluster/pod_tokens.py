"""Finds the pod that a service account token belongs to, by a TokenReview of the cluster's API server."""

from __future__ import annotations

from typing import Any

from localcloud import settings
from localcloud.machine.cluster.kubeapi import KubeApi
from localcloud.machine.interface import PodToken

_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_USER = "system:serviceaccount:"
_POD = "authentication.kubernetes.io/pod-"


def review(api: KubeApi, token: str) -> PodToken | None:
    """Return the token's pod; None when the token is not valid, not for pod identity's audience or not bound to a pod."""
    token_review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [settings.POD_IDENTITY_SERVICE]},
    }
    return read((api.post(_REVIEWS, token_review) or {}).get("status", {}))


def read(status: dict[str, Any]) -> PodToken | None:
    """Return the pod that a TokenReview's status names; None when it names none."""
    # An authenticator without audiences returns none: then the API server confirms the user, not what the token is for.
    if not status.get("authenticated") or settings.POD_IDENTITY_SERVICE not in status.get("audiences", []):
        return None
    user = status["user"]
    namespace, _, account = user["username"].removeprefix(_USER).partition(":")
    extra = user.get("extra") or {}
    names = [(extra.get(_POD + key) or [""])[0] for key in ("name", "uid")]
    if not user["username"].startswith(_USER) or not all(names):
        return None
    return PodToken(namespace, account, *names)
