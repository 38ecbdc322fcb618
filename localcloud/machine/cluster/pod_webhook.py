"""The admission webhook of EKS Pod Identity: it gives pods with an associated service account the way to their credentials.

Pure functions, from an AdmissionReview to its answer. The pod gets a token for the agent, and the variables by which AWS's SDKs
send it there. Unlike EKS, it adds AWS_ENDPOINT_URL, so that manifests are the same in every cloud.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from localcloud import settings

Json = dict[str, Any]

NAME = "pod-identity-webhook"
PATH = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{NAME}"
"""Path of its configuration in the Kubernetes API."""
ROUTE = "/pod-identity/"
"""URL path of the webhook, followed by the cluster's name."""
VOLUME = "eks-pod-identity-token"
"""Name of the volume, and of the file in it."""
MOUNT = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
_TOKEN_LIFE = 86400
_SKIPPED = "eks.amazonaws.com/skip-containers"
_VARIABLES = (
    (("AWS_STS_REGIONAL_ENDPOINTS",), ("regional",)),
    (("AWS_DEFAULT_REGION", "AWS_REGION"), (settings.REGION, settings.REGION)),
    (("AWS_ENDPOINT_URL",), (settings.AWS_ENDPOINT_URL,)),
    (
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        (settings.POD_IDENTITY_URL, f"{MOUNT}/{VOLUME}"),
    ),
)
"""Groups of variables, names and values. A container that has one of a group's names gets none of that group."""


def configuration(cluster: str, ca_pem: str) -> Json:
    """Return the MutatingWebhookConfiguration of a new EKS cluster; `ca_pem` is the authority of the webhook's certificate."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            {
                "name": "iam-for-pods.amazonaws.com",
                "clientConfig": {
                    "url": f"https://{settings.AWS_HOST}:{settings.WEBHOOK_PORT}{ROUTE}{cluster}",
                    "caBundle": base64.b64encode(ca_pem.encode()).decode(),
                },
                "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}],
                "objectSelector": {
                    "matchExpressions": [{"key": "eks.amazonaws.com/skip-pod-identity-webhook", "operator": "DoesNotExist"}]
                },
                "admissionReviewVersions": ["v1"],
                "failurePolicy": "Ignore",
                "matchPolicy": "Equivalent",
                "reinvocationPolicy": "IfNeeded",
                "sideEffects": "None",
                "timeoutSeconds": 10,
            }
        ],
    }


def review(admission_review: Json, associated: Callable[[str, str], bool]) -> Json:
    """Answer an AdmissionReview. `associated` returns whether (namespace, service account) has an association.

    KeyError or TypeError when it is no AdmissionReview of a pod.
    """
    request = admission_review["request"]
    pod = request["object"]
    response: Json = {"uid": request["uid"], "allowed": True}
    # A pod that is made from a template may not contain its namespace yet; the request does.
    if associated(request["namespace"], pod["spec"].get("serviceAccountName") or "default") and (operations := patch(pod)):
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def patch(pod: Json) -> list[Json]:
    """Return the JSON patch that the pod needs; empty when it has everything, as when the webhook sees it a second time."""
    skipped = {name.strip() for name in (pod["metadata"].get("annotations") or {}).get(_SKIPPED, "").split(",")}
    operations = _volume(pod["spec"].get("volumes"))
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(pod["spec"].get(kind) or []):
            if container["name"] not in skipped and (wanted := _equipped(container)) != container:
                operations.append({"op": "replace", "path": f"/spec/{kind}/{number}", "value": wanted})
    return operations


def _volume(existing: list[Json] | None) -> list[Json]:
    token = {"audience": settings.POD_IDENTITY_SERVICE, "expirationSeconds": _TOKEN_LIFE, "path": VOLUME}
    volume = {"name": VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}
    if not existing:
        return [{"op": "add", "path": "/spec/volumes", "value": [volume]}]
    if any(each["name"] == VOLUME for each in existing):
        return []
    return [{"op": "add", "path": "/spec/volumes/-", "value": volume}]


def _equipped(container: Json) -> Json:
    """Return the container with the variables and the mount that it lacks."""
    environment = list(container.get("env") or [])
    own = {each["name"] for each in environment}
    for names, values in _VARIABLES:
        if not own.intersection(names):
            environment += [{"name": name, "value": value} for name, value in zip(names, values, strict=True)]
    mounts = list(container.get("volumeMounts") or [])
    if not any(mount["name"] == VOLUME for mount in mounts):
        mounts.append({"name": VOLUME, "mountPath": MOUNT, "readOnly": True})
    return container | {"env": environment, "volumeMounts": mounts}
