"""Whether a principal may do what its request asks for, decided by its policies as on AWS."""

from __future__ import annotations

from datetime import UTC, datetime

from localcloud import settings
from localcloud.aws.auth import credentials
from localcloud.aws.auth.credentials import Credential
from localcloud.aws.auth.signatures import Refused
from localcloud.aws.authorization import needs, policies, principals, record
from localcloud.aws.authorization.needs import Context, Need
from localcloud.aws.authorization.operations import Operation
from localcloud.aws.authorization.policies import Decision, Question

DENIED = "AccessDeniedException"
"""The code with which a request is refused; it has other names in some protocols (`middleware`)."""
_FREE = {("sts", "GetCallerIdentity"), ("sts", "GetSessionToken")}
"""Operations that need no permission. For AssumeRole the role decides, too (`may_assume`)."""
_BY_TRUST = {("sts", "AssumeRole")}


def check(credential: Credential, operation: Operation, address: str) -> None:
    """Raise `Refused` unless the principal may do the operation. The caller holds `moto_lock.MOTO_LOCK`."""
    if (operation.service, operation.name) in _FREE | _BY_TRUST:
        return
    own = principals.policies_of(credential)
    caller = needs.of_caller(credential, operation.service, address, datetime.now(UTC))
    for need in needs.of(operation):
        reason = _refusal(own, need, caller)
        record.add(credential.principal_arn, need.action, need.resource, allowed=reason is None)
        if reason is not None:
            raise Refused(DENIED, _message(credential, operation.service, need, reason))


def may_assume(role_arn: str, credential: Credential, context: Context | None = None) -> bool:
    """Whether the role exists and the principal may assume it.

    A trust policy that names the principal itself suffices; one that names the account leaves it to the principal's own
    policies. The caller holds `moto_lock.MOTO_LOCK`.
    """
    caller = needs.of_caller(credential, "sts", "", datetime.now(UTC)) | (context or {})
    question = Need("sts:AssumeRole", role_arn)
    own = _refusal(principals.policies_of(credential), question, caller)
    named = frozenset({("AWS", credential.arn), ("AWS", credential.principal_arn)})
    account = frozenset({("AWS", settings.ACCOUNT), ("AWS", f"arn:{credentials.PARTITION}:iam::{settings.ACCOUNT}:root")})
    by_name, by_any = (_trust(role_arn, question.action, caller, who) for who in (named, named | account))
    allowed = by_any is Decision.ALLOWED and own is None
    allowed = allowed or (by_name is Decision.ALLOWED and by_any is Decision.ALLOWED and own == _SILENT)
    record.add(credential.principal_arn, question.action, role_arn, allowed=allowed)
    return allowed


def trusts_service(role_arn: str, service: str, action: str, context: Context) -> bool:
    """Whether the role exists and its trust policy allows the AWS service the action ("sts:...")."""
    return _trust(role_arn, action, context, frozenset({("Service", service)})) is Decision.ALLOWED


def _trust(role_arn: str, action: str, context: Context, who: frozenset[tuple[str, str]]) -> Decision:
    role = next((role for role in credentials.iam().get_roles() if role.arn == role_arn), None)
    documents = [principals.document(role.assume_role_policy_document)] if role else []
    return policies.decide(documents, Question(action, role_arn, context, who))


_ALLOWS = "allows the {action} action"
_SILENT = f"because no identity-based policy {_ALLOWS}"
_EXPLICIT = "with an explicit deny in an identity-based policy"


def _refusal(own: principals.Policies, need: Need, caller: Context) -> str | None:
    """Why the need is not met, in AWS's words; None when it is."""
    question = Question(need.action, need.resource, caller | need.context)
    decision = policies.decide(own.identity, question)
    if decision is not Decision.ALLOWED:
        return _EXPLICIT if decision is Decision.DENIED else _SILENT
    for kind, documents in own.limits.items():
        if (by_limit := policies.decide(documents, question)) is not Decision.ALLOWED:
            return f"with an explicit deny in a {kind}" if by_limit is Decision.DENIED else f"because no {kind} {_ALLOWS}"
    return None


def _message(credential: Credential, service: str, need: Need, reason: str) -> str:
    what = f"{need.action} on resource: {need.resource} {reason.format(action=need.action)}"
    text = f"User: {credential.arn} is not authorized to perform: {what}"
    return f"You are not authorized to perform this operation. {text}" if service == "ec2" else text
