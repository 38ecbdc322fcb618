"""Whether the credentials are accepted, and last as long as Terraform may need them."""

from __future__ import annotations

from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError

from blocks.aws_session import AwsSession
from tasks.support.checks import Check

APPLY_TAKES_S = 2700.0
"""Seconds for which Terraform's credentials must be good: an apply takes 25 to 30 minutes on AWS, and they cannot be renewed in it."""


def check_credentials(session: AwsSession) -> Check:
    """Check that AWS accepts the credentials, and that they do not end while Terraform runs."""
    try:
        who = session.client("sts").get_caller_identity()["Arn"]
        ends = session.new_credentials_end()
    except (ClientError, BotoCoreError) as error:
        return Check("credentials", "bad", f"AWS refuses them: {error}")
    if ends is None:
        return Check("credentials", "ok", who)
    if isinstance(ends, str):
        return Check("credentials", "not checked", f"{who}; {ends}")
    left = (ends - datetime.now(UTC)).total_seconds()
    detail = f"{who}; they end in {left / 60:.0f} min"
    if left < APPLY_TAKES_S:
        return Check(
            "credentials",
            "bad",
            f"{detail}, and Terraform may run for {APPLY_TAKES_S / 60:.0f}: give the target a role_arn, or log in again",
        )
    return Check("credentials", "ok", detail)
