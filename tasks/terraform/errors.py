"""What can go wrong with Terraform, messages by what to do about it.

    Transient                       Permanent
    ├── StateLocked                 ├── TerraformMissing
    ├── TerraformTimedOut           ├── TerraformFailed
    ├── TerraformUnsettled          └── PlanExceeded
    └── PlanOutdated

Terraform is idempotent: after any Transient the same command is simply run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blocks.errors import Permanent, Transient
from tasks.terraform.lock import LOCK_REFUSED, HeldLock

Event = dict[str, Any]


class TerraformMissing(Permanent):
    """There is no terraform to run."""


class TerraformFailed(Permanent):
    """Terraform refused or failed, and would again: the configuration, the rights or a quota must change."""


class PlanExceeded(Permanent):
    """What Terraform would do now goes beyond the plan that was shown."""


class TerraformUnsettled(Transient):
    """Terraform failed for a reason that passes: throttling, capacity, a connection, an interruption."""


class TerraformTimedOut(Transient):
    """Terraform was stopped at its deadline; what it had made is in the state."""


class PlanOutdated(Transient):
    """The state has changed since the plan was made: plan again."""


class StateLocked(Transient):
    """Someone else holds the state's lock."""

    def __init__(self, message: str, lock: HeldLock | None = None) -> None:
        super().__init__(message)
        self.lock = lock


_PASSING = (
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
"""Parts of messages of failures that pass by themselves or when the same is tried again."""


_NAME_TAKEN = ("already exists", "alreadyexists", "alreadyinuse", "resourceinuseexception")
"""Parts of messages that say that the name is taken."""


def failure(command: str, returncode: int, events: Sequence[Event], stderr: str) -> Exception:
    """The error that a terraform that ended with `returncode` stands for.

    Args:
        stderr: what it wrote besides its events; all there is when it died before its first event.
    """
    problems = [
        event["diagnostic"] for event in events if event.get("type") == "diagnostic" and event["diagnostic"].get("severity") == "error"
    ]
    messages = [_describe(problem) for problem in problems] or [_last_words(events, stderr)]
    message = f"terraform {command} ended with {returncode}: " + "; ".join(dict.fromkeys(messages))
    text = " ".join(f"{problem.get('summary', '')} {problem.get('detail', '')}" for problem in problems) or messages[0]
    if LOCK_REFUSED in text:
        return _state_locked(command, text)
    if "Saved plan is stale" in text:
        return PlanOutdated(f"{message}. Make a new plan and apply that.")
    if returncode < 0 or any(part in text.lower() for part in _PASSING):
        return TerraformUnsettled(f"{message}. Running it again goes on where this ended.")
    if any(part in text.lower() for part in _NAME_TAKEN):
        message += (
            ". Something of that name exists that Terraform does not know: a run that was killed made it, or somebody else did. "
            "Remove it, or make it known by terraform import"
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
    """The end of what it said when it gave no diagnostic."""
    said = stderr.strip() or " ".join(str(event.get("@message", "")) for event in events[-3:])
    return " ".join(said.split())[-400:] or "it said nothing"
