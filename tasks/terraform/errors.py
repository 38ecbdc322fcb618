"""Terraform's errors, by what to do about them.

    Transient                       Permanent
    ├── StateLocked                 ├── TerraformMissing
    ├── TerraformTimedOut           ├── TerraformFailed
    ├── TerraformUnsettled          └── PlanExceeded
    └── PlanOutdated

Terraform is idempotent: after a Transient error the same command is run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blocks import rights
from blocks.errors import Permanent, Transient
from tasks.terraform.lock import LOCK_REFUSED, HeldLock

Event = dict[str, Any]


class TerraformMissing(Permanent):
    """The program terraform was not found."""


class TerraformFailed(Permanent):
    """Terraform refused or failed and would fail again: the configuration, the permissions or a quota must change."""


class PlanExceeded(Permanent):
    """Terraform would now change more than the plan that was shown."""


class TerraformUnsettled(Transient):
    """Terraform failed for a temporary reason: throttling, capacity, a connection, an interruption."""


class TerraformTimedOut(Transient):
    """Terraform was stopped at its deadline; the resources that it had created are in the state."""


class PlanOutdated(Transient):
    """The state has changed since the plan was made: plan again."""


class StateLocked(Transient):
    """The state is locked by another process."""

    def __init__(self, message: str, lock: HeldLock | None = None) -> None:
        super().__init__(message)
        self.lock = lock


_TEMPORARY = (
    "throttl",
    "requestlimitexceeded",
    "rate exceeded",
    "insufficientinstancecapacity",
    "internalfailure",
    "internal server error",
    "serviceunavailable",
    "statuscode: 50",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "no such host",
    "unexpected eof",
    "timeout while waiting",
    "context canceled",
    "execution halted",
    "dependencyviolation",
)
"""Parts of messages of failures that are temporary."""


_NAME_TAKEN = ("already exists", "alreadyexists", "alreadyinuse", "resourceinuseexception")
"""Parts of messages about a name that is in use."""


def failure(command: str, returncode: int, events: Sequence[Event], stderr: str) -> Exception:
    """Make the error for a terraform that ended with `returncode`.

    Args:
        stderr: Its standard error, for a process that ended before its first event.
    """
    problems = [
        event["diagnostic"] for event in events if event.get("type") == "diagnostic" and event["diagnostic"].get("severity") == "error"
    ]
    messages = [_describe(problem) for problem in problems] or [_last_words(events, stderr)]
    message = f"terraform {command} ended with {returncode}: " + "; ".join(dict.fromkeys(messages))
    text = " ".join(f"{problem.get('summary', '')} {problem.get('detail', '')}" for problem in problems) or messages[0]
    if returncode >= 0 and (lacking := rights.missing(text)):
        # Whatever else failed: to run it again does not help before the role has them.
        return TerraformFailed(
            f"terraform {command} ended with {returncode}: {rights.remedy(lacking)}. {'; '.join(dict.fromkeys(messages))}"
        )
    if LOCK_REFUSED in text:
        return _state_locked(command, text)
    if "Saved plan is stale" in text:
        return PlanOutdated(f"{message}. Make a new plan and apply that.")
    if returncode < 0 or any(part in text.lower() for part in _TEMPORARY):
        return TerraformUnsettled(f"{message}. Running it again goes on where this ended.")
    if any(part in text.lower() for part in _NAME_TAKEN):
        message += (
            ". Something of that name exists that is not in Terraform's state: a killed run created it, or another tool did. "
            "Remove it, or add it to the state with terraform import"
        )
    return TerraformFailed(message)


def _state_locked(command: str, text: str) -> StateLocked:
    lock = HeldLock.from_text(text)
    if lock is None:
        return StateLocked(f"terraform {command}: another run holds the state's lock, and its details could not be read: {text[:400]}")
    return StateLocked(
        f"terraform {command}: the state is locked by {lock.described()}. Wait for it to end. "
        f"Only if it is certainly dead: terraform force-unlock {lock.id}",
        lock,
    )


def _describe(problem: Event) -> str:
    where = f"{problem['address']}: " if problem.get("address") else ""
    detail = " ".join(problem.get("detail", "").split())
    return f"{where}{problem.get('summary', 'no summary')}" + (f" ({detail[:400]})" if detail else "")


def _last_words(events: Sequence[Event], stderr: str) -> str:
    """The end of its output, for when there is no diagnostic."""
    text = stderr.strip() or " ".join(str(event.get("@message", "")) for event in events[-3:])
    return " ".join(text.split())[-400:] or "it printed nothing"
