"""EKS Auth: it exchanges a pod's service account token for credentials of the role that its association names.

On EKS the agent of each node calls this API for its pods. The agent here calls the function, and the API exists too. The
sessions have no tags, because nothing here would read them.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from moto.sts.models import AssumedRole
from werkzeug.wrappers import Response

from localcloud import settings
from localcloud.aws import current_machine, moto_lock, sts
from localcloud.aws.auth import credentials, errors
from localcloud.aws.auth.signatures import Refused
from localcloud.aws.authorization import decisions
from localcloud.aws.eks import models, pod_identity
from localcloud.aws.eks.models import EksCluster, Shape
from localcloud.machine.interface import MachineError, PodToken

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

SERVICE = "eks-auth"
"""The name that requests to EKS Auth are signed for."""
_PATH = re.compile(r"/clusters/([^/]+)/assume-role-for-pod-identity")
_TRUST = ("sts:AssumeRole", "sts:TagSession")
_LIFETIME_S = 6 * 3600
_CHAINED_LIFETIME_S = 3600
"""Seconds; AWS limits a role that is assumed through another role to an hour."""
_NAME_PART = 11
"""Characters of the cluster's and of the pod's name in a session name, which with a UUID then has the 64 that STS allows."""


def assume_role_for_pod_identity(cluster_name: str, token: str) -> Shape:
    """Return AssumeRoleForPodIdentity's answer, `expiration` with time zone. Raise `Refused`, with EKS Auth's codes, otherwise."""
    cluster = models.find_cluster(cluster_name)
    if cluster is None:
        raise Refused("ResourceNotFoundException", f"No cluster found for name: {cluster_name}.", 404)
    pod = _pod(cluster, token)
    association = pod_identity.find_association(cluster, pod.namespace, pod.service_account)
    if association is None:
        account = f"service account {pod.service_account} of namespace {pod.namespace}"
        raise Refused("ResourceNotFoundException", f"No pod identity association for {account} in cluster {cluster.name}.", 404)
    with moto_lock.MOTO_LOCK:
        session = _session(association, f"eks-{cluster.name[:_NAME_PART]}-{pod.pod_name[:_NAME_PART]}-{uuid4()}")
        return _answer(association, session)


def _pod(cluster: EksCluster, token: str) -> PodToken:
    """Return the token's pod. A wrong audience or expiry shows in the token itself; only the API server knows if it is valid."""
    claims = _claims(token)
    if settings.POD_IDENTITY_SERVICE not in _listed(claims.get("aud")):
        raise Refused("InvalidTokenException", f"The token's audience is not {settings.POD_IDENTITY_SERVICE}.", 400)
    expires = claims.get("exp")
    if isinstance(expires, int | float) and expires <= datetime.now(UTC).timestamp():
        raise Refused("ExpiredTokenException", "The token has expired.", 400)
    try:
        pod = current_machine.machine().review_pod_token(cluster.name, token)
    except MachineError as error:
        raise Refused("InternalServerException", str(error), 500) from error
    if pod is None:
        raise Refused("InvalidTokenException", f"The token is not one that cluster {cluster.name} issued for an existing pod.", 400)
    return pod


def _claims(token: str) -> dict[str, Any]:
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise Refused("InvalidTokenException", "The token is not a JSON Web Token.", 400)
    return claims


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _session(association: Shape, name: str) -> AssumedRole:
    """Start a session of the associated role, or of the target role that the associated role may assume."""
    given = _context(association)
    if not all(decisions.trusts_service(association["roleArn"], settings.POD_IDENTITY_SERVICE, action, given) for action in _TRUST):
        raise _denied(association["roleArn"], f"it must allow {' and '.join(_TRUST)} to {settings.POD_IDENTITY_SERVICE}")
    session = sts.start_session(association["roleArn"], name, _LIFETIME_S)
    target = association["targetRoleArn"]
    if not target:
        return session
    first = credentials.lookup(session.access_key_id)
    if first is None or not decisions.may_assume(target, first):
        raise _denied(target, f"it must allow sts:AssumeRole to {association['roleArn']}")
    return sts.start_session(target, name, _CHAINED_LIFETIME_S)


def _context(association: Shape) -> dict[str, tuple[str, ...]]:
    """The condition keys of EKS's request, which a role's trust policy may name."""
    cluster = association["clusterName"]
    tags = {"eks-cluster-name": cluster, "kubernetes-namespace": association["namespace"]}
    tags |= {"kubernetes-service-account": association["serviceAccount"]}
    found = {"aws:sourceaccount": settings.ACCOUNT, "aws:sourcearn": models.arn("cluster", cluster)}
    found |= {f"aws:requesttag/{key}": value for key, value in tags.items()}
    return {key: (value,) for key, value in found.items()}


def _denied(role_arn: str, remedy: str) -> Refused:
    return Refused(
        "AccessDeniedException",
        f"EKS may not assume the role {role_arn}: it does not exist or does not trust EKS; {remedy}.",
        400,
    )


def _answer(association: Shape, session: AssumedRole) -> Shape:
    return {
        "subject": {key: association[key] for key in ("namespace", "serviceAccount")},
        "audience": settings.POD_IDENTITY_SERVICE,
        "podIdentityAssociation": {key: association[key] for key in ("associationArn", "associationId")},
        "assumedRoleUser": {"arn": session.arn, "assumeRoleId": session.user_id},
        "credentials": {
            "accessKeyId": session.access_key_id,
            "secretAccessKey": session.secret_access_key,
            "sessionToken": session.session_token,
            "expiration": session.expiration.replace(tzinfo=UTC),
        },
    }


def answer(environ: WSGIEnvironment) -> Response:
    """Answer a request of EKS Auth's API, whose signature has been checked."""
    path = _PATH.fullmatch(environ.get("PATH_INFO", ""))
    try:
        if path is None or environ["REQUEST_METHOD"] != "POST":
            raise Refused(
                "UnknownOperationException", "the embedded cloud does AssumeRoleForPodIdentity of EKS Auth, and nothing else", 400
            )
        body = json.dumps(assume_role_for_pod_identity(path[1], _token(environ)), default=datetime.timestamp)
    except Refused as refused:
        return errors.response(SERVICE, refused.status, refused.code, refused.message)
    return Response(body, content_type="application/json")


def _token(environ: WSGIEnvironment) -> str:
    try:
        return str(json.loads(environ["wsgi.input"].read())["token"])
    except (ValueError, KeyError, TypeError):
        raise Refused("InvalidParameterException", "The body must be a JSON object with a token.", 400) from None
