"""STS: a role must exist and trust the caller; a presigned GetCallerIdentity is answered, in JSON if asked for.

Moto itself lets any caller assume any role, and takes a presigned request for a call to S3, which it answers with 200.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult
from moto.sts import models as sts_models
from moto.sts import urls as sts_urls
from moto.sts.responses import TokenResponse
from werkzeug.wrappers import Response

from localcloud import settings
from localcloud.aws.auth import credentials, errors
from localcloud.aws.auth.credentials import Credential
from localcloud.aws.auth.signatures import ALGORITHM, Claim
from localcloud.aws.authorization import decisions

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Sts(TokenResponse):
    """Moto's STS with a check of the role's trust policy."""

    def assume_role(self) -> ActionResult | TYPE_RESPONSE:  # type: ignore[override]
        """Start a session of a role that exists and trusts the caller. Like AWS, the refusal does not say which of the two is missing."""
        if "PolicyArns.member.1.arn" in self.querystring:
            raise NotImplementedError("AssumeRole with PolicyArns: give the session's policy as Policy")
        if policy := self._get_param("Policy"):
            try:
                json.loads(policy)
            except ValueError:
                refusal = "The session policy is not valid JSON."
                return 400, {"status": 400}, errors.body("sts", "MalformedPolicyDocument", refusal)[1].decode()
        caller, role_arn = credentials.lookup(self.get_access_key()), self._get_param("RoleArn")
        given = {"sts:externalid": self._get_param("ExternalId"), "sts:rolesessionname": self._get_param("RoleSessionName")}
        if caller is None or not decisions.may_assume(role_arn, caller, {key: (value,) for key, value in given.items() if value}):
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


def start_session(role_arn: str, name: str, seconds: int) -> sts_models.AssumedRole:
    """Start a session of the role, without a check of the trust policy. The caller holds `moto_lock.MOTO_LOCK`."""
    return sts_models.sts_backends[settings.ACCOUNT][credentials.PARTITION].assume_role(
        region_name=settings.REGION, role_session_name=name, role_arn=role_arn, policy="", duration=seconds, external_id=""
    )


def wants_json(environ: WSGIEnvironment) -> bool:
    """Whether the client asked for JSON. AWS's STS can answer in it, moto's cannot."""
    return "json" in environ.get("HTTP_ACCEPT", "") and "Action=GetCallerIdentity" in environ.get("QUERY_STRING", "")


def caller_identity_json(credential: Credential) -> Response:
    """Return the answer to GetCallerIdentity in AWS's JSON form."""
    result = {"Account": settings.ACCOUNT, "Arn": credential.arn, "UserId": credential.user_id}
    answer = {"GetCallerIdentityResult": result, "ResponseMetadata": {"RequestId": "0"}}
    return Response(json.dumps({"GetCallerIdentityResponse": answer}), content_type="application/json")


def add_authorization_header(environ: WSGIEnvironment, claim: Claim) -> None:
    """Write the checked claim into the Authorization header, the only place where moto looks for service and caller."""
    scope = f"{claim.access_key_id}/{claim.day}/{claim.region}/{claim.service}/aws4_request"
    names = ";".join(claim.signed_headers)
    environ["HTTP_AUTHORIZATION"] = f"{ALGORITHM} Credential={scope}, SignedHeaders={names}, Signature={claim.signature}"
