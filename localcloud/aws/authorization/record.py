"""What principals asked for and whether it was allowed, since the start: the source of a policy with no more than is needed."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import Any

_MOST_RESOURCES = 1000
"""Distinct resources that are kept for one action of a principal; there is no end to the names of objects."""

_calls: dict[tuple[str, str, bool], Counter[str]] = {}
_lock = Lock()


def add(principal: str, action: str, resource: str, allowed: bool) -> None:
    """Count one use of an action."""
    with _lock:
        seen = _calls.setdefault((principal, action, allowed), Counter())
        seen[resource if resource in seen or len(seen) < _MOST_RESOURCES else "..."] += 1


def calls() -> list[dict[str, Any]]:
    """One entry for each principal, action and outcome, with the resources and how often each was named."""
    with _lock:
        return [
            {"principal": principal, "action": action, "allowed": allowed, "resources": dict(sorted(seen.items()))}
            for (principal, action, allowed), seen in sorted(_calls.items())
        ]
