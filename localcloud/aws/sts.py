"""STS: a role must exist and trust the caller; a presigned GetCallerIdentity is answered, in JSON if asked for.

Moto itself lets any caller assume any role, and takes a presigned request for a call to S3, which it answers with 200.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult
from moto.sts import models as sts_models
from moto.sts import urls as sts_urls
from moto.sts.responses import TokenResponse

from localcloud import settings
from localcloud.aws.auth import credentials, errors
from localcloud.aws.auth.credentials import Credential
from localcloud.aws.auth.signatures import ALGORITHM, Claim

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Sts(TokenResponse):
    """Moto's STS with a check of the role's trust policy."""

    def assume_role(self) -> ActionResult | TYPE_RESPONSE:  # type: ignore[override]
        """Start a session of a role that exists and trusts the caller. Like AWS, the refusal does not say which of the two is missing."""
        caller, role_arn = credentials.lookup(self.get_access_key()), self._get_param("RoleArn")
        if caller is None or not trusts(role_arn, caller):
            who = caller.arn if caller else "unknown"
            refusal = f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            return 403, {"status": 403}, errors.body("sts", "AccessDenied", refusal)[1].decode()
        return super().assume_role()

    def get_session_token(self) -> ActionResult:
        """Refuse the call: moto would answer with a fixed, public key."""
        raise NotImplementedError("GetSessionToken: use the key itself, or assume a role")

    def get_federation_token(self) -> ActionResult:
        """Refuse the call: moto would answer with a fixed, public key."""
        raise NotImplementedError("GetFederationToken: assume a role")


class StsBackend(sts_models.STSBackend):
    """Moto's STS whose session keys have secrets from the system's generator."""

    @property
    def _url_module(self) -> Any:
        return sts_urls

    def assume_role(self, *args: Any, **kwargs: Any) -> sts_models.AssumedRole:
        """Start a session with a new random secret."""
        role = super().assume_role(*args, **kwargs)
        role.secret_access_key = role.access_key.secret_access_key = credentials.random_secret(40)
        return role


def extend_moto() -> None:
    """Let `Sts` answer STS's requests and `StsBackend` keep its state."""
    sts_urls.url_paths["{0}/$"] = Sts.dispatch
    sts_models.sts_backends.backend = StsBackend


def trusts(role_arn: str, caller: Credential) -> bool:
    """Whether the role exists and its trust policy lets the caller assume it."""
    allowed = {"*", settings.ACCOUNT, f"arn:{credentials.PARTITION}:iam::{settings.ACCOUNT}:root", caller.arn, caller.principal_arn}
    return any(_allows(statement, "sts:AssumeRole", "AWS", allowed) for statement in _trust_statements(role_arn))


def trusts_service(role_arn: str, service: str, actions: Iterable[str]) -> bool:
    """Whether the role exists and its trust policy allows the AWS service each of the actions ("sts:...")."""
    statements = _trust_statements(role_arn)
    return all(any(_allows(statement, action, "Service", {service}) for statement in statements) for action in actions)


def start_session(role_arn: str, name: str, seconds: int) -> sts_models.AssumedRole:
    """Start a session of the role, without a check of the trust policy. The caller holds `moto_lock.MOTO_LOCK`."""
    return sts_models.sts_backends[settings.ACCOUNT][credentials.PARTITION].assume_role(
        region_name=settings.REGION, role_session_name=name, role_arn=role_arn, policy="", duration=seconds, external_id=""
    )


def _trust_statements(role_arn: str) -> list[dict[str, Any]]:
    """The statements of the role's trust policy; none when there is no such role."""
    role = next((r for r in credentials.iam().get_roles() if r.arn == role_arn), None)
    if role is None:
        return []
    document = role.assume_role_policy_document
    return _as_list((json.loads(document) if isinstance(document, str) else document)["Statement"])


def _allows(statement: dict[str, Any], action: str, kind: str, principals: set[str]) -> bool:
    """Whether the statement allows the action to one of the principals, of the kind AWS or Service."""
    principal = statement.get("Principal", {})
    # A bare "*" means every AWS account, but no service.
    named = _as_list({"AWS": principal}.get(kind, []) if isinstance(principal, str) else principal.get(kind, []))
    actions = set(_as_list(statement.get("Action", [])))
    return statement.get("Effect") == "Allow" and bool(actions & {action, "sts:*", "*"}) and bool(principals & set(named))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def wants_json(environ: WSGIEnvironment) -> bool:
    """Whether the client asked for JSON. AWS's STS can answer in it, moto's cannot."""
    return "json" in environ.get("HTTP_ACCEPT", "") and "Action=GetCallerIdentity" in environ.get("QUERY_STRING", "")


def caller_identity_json(start_response: StartResponse, credential: Credential) -> Iterable[bytes]:
    """Answer GetCallerIdentity in AWS's JSON form."""
    result = {"Account": settings.ACCOUNT, "Arn": credential.arn, "UserId": credential.user_id}
    response = {"GetCallerIdentityResult": result, "ResponseMetadata": {"RequestId": "0"}}
    body = json.dumps({"GetCallerIdentityResponse": response}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def add_authorization_header(environ: WSGIEnvironment, claim: Claim) -> None:
    """Write the checked claim into the Authorization header, the only place where moto looks for service and caller."""
    scope = f"{claim.access_key_id}/{claim.day}/{claim.region}/{claim.service}/aws4_request"
    names = ";".join(claim.signed_headers)
    environ["HTTP_AUTHORIZATION"] = f"{ALGORITHM} Credential={scope}, SignedHeaders={names}, Signature={claim.signature}"
