"""STS: roles must exist and trust the caller; a presigned GetCallerIdentity is answered, as JSON when asked.

Plain moto lets anybody assume any role, and takes a presigned request for a call to S3, which it answers with 200.
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
from localcloud.aws import credentials, refusals
from localcloud.aws.credentials import Credential
from localcloud.aws.signatures import ALGORITHM, Claim

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Sts(TokenResponse):
    """Moto's STS with a check of the role's trust policy."""

    def assume_role(self) -> ActionResult | TYPE_RESPONSE:  # type: ignore[override]
        """A session of a role that exists and trusts the caller. AWS does not tell which of the two it lacks."""
        caller, role_arn = credentials.lookup(self.get_access_key()), self._get_param("RoleArn")
        if caller is None or not _trusts(role_arn, caller):
            who = caller.arn if caller else "unknown"
            refusal = f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            return 403, {"status": 403}, refusals.body("sts", "AccessDenied", refusal)[1].decode()
        return super().assume_role()

    def get_session_token(self) -> ActionResult:
        """Not done: moto answers with a key that everybody knows."""
        raise NotImplementedError("GetSessionToken: use the key itself, or assume a role")

    def get_federation_token(self) -> ActionResult:
        """Not done, for the same reason."""
        raise NotImplementedError("GetFederationToken: assume a role")


class StsBackend(sts_models.STSBackend):
    """Moto's STS whose session keys have secrets from the system's generator."""

    @property
    def _url_module(self) -> Any:
        return sts_urls

    def assume_role(self, *args: Any, **kwargs: Any) -> sts_models.AssumedRole:
        """A new session."""
        role = super().assume_role(*args, **kwargs)
        role.secret_access_key = role.access_key.secret_access_key = credentials.random_secret(40)
        return role


def install() -> None:
    """STS requests and books are these."""
    sts_urls.url_paths["{0}/$"] = Sts.dispatch
    sts_models.sts_backends.backend = StsBackend


def _trusts(role_arn: str, caller: Credential) -> bool:
    role = next((r for r in credentials.iam().get_roles() if r.arn == role_arn), None)
    if role is None:
        return False
    document = role.assume_role_policy_document
    statements = (json.loads(document) if isinstance(document, str) else document)["Statement"]
    allowed = {"*", settings.ACCOUNT, f"arn:{credentials.PARTITION}:iam::{settings.ACCOUNT}:root", caller.arn, caller.principal_arn}
    return any(_allows(statement, allowed) for statement in _as_list(statements))


def _allows(statement: dict[str, Any], principals: set[str]) -> bool:
    principal = statement.get("Principal", {})
    named = _as_list(principal if isinstance(principal, str) else principal.get("AWS", []))
    actions = set(_as_list(statement.get("Action", [])))
    return statement.get("Effect") == "Allow" and bool(actions & {"sts:AssumeRole", "sts:*", "*"}) and bool(principals & set(named))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def wants_json(environ: WSGIEnvironment) -> bool:
    """Whether the client asked for JSON; AWS's STS gives it, moto's knows XML alone."""
    return "json" in environ.get("HTTP_ACCEPT", "") and "Action=GetCallerIdentity" in environ.get("QUERY_STRING", "")


def caller_identity_json(start_response: StartResponse, credential: Credential) -> Iterable[bytes]:
    """GetCallerIdentity's answer in AWS's JSON form."""
    result = {"Account": settings.ACCOUNT, "Arn": credential.arn, "UserId": credential.user_id}
    response = {"GetCallerIdentityResult": result, "ResponseMetadata": {"RequestId": "0"}}
    body = json.dumps({"GetCallerIdentityResponse": response}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def sign_in_header(environ: WSGIEnvironment, claim: Claim) -> None:
    """Moto finds service and caller in the Authorization header alone: writes the checked claim there."""
    scope = f"{claim.access_key_id}/{claim.day}/{claim.region}/{claim.service}/aws4_request"
    names = ";".join(claim.signed_headers)
    environ["HTTP_AUTHORIZATION"] = f"{ALGORITHM} Credential={scope}, SignedHeaders={names}, Signature={claim.signature}"
