"""What to do about a refusal of AWS: which action the role lacks, and which policy has it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

POLICY = "terraform/pipeline-policy.json"
_NAMED = re.compile(r"not authorized to perform:?\s+([a-z0-9-]+:\w+)")
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"})
"""Codes of refusals; the last one is that of an answer without a body."""
_WITHOUT_A_BODY = {"HeadBucket": "s3:ListBucket", "HeadObject": "s3:GetObject or s3:ListBucket"}
"""Actions by operations whose refusals say nothing but Forbidden. Who may not list a bucket is refused an object that is not there."""
_FORBIDDEN = re.compile(r"S3: (HeadBucket|HeadObject), https response error StatusCode: 403")
"""Those refusals, as Terraform words them."""


def missing(text: str) -> list[str]:
    """The actions that refusals in this text name, or mean, each once."""
    words = " ".join(text.split())
    return list(dict.fromkeys([*_NAMED.findall(words), *(_WITHOUT_A_BODY[operation] for operation in _FORBIDDEN.findall(words))]))


def remedy(actions: Iterable[str]) -> str:
    """The sentence for the person who gave the role its rights."""
    named = ", ".join(actions) or "a permission that AWS does not name"
    return f"the role lacks {named}: give it {POLICY}, which has all that the pipeline needs (docs/targets.md)"


def explain(parsed: dict[str, Any], model: Any, **_: Any) -> None:
    """Begin the message of a refusal with the remedy. A handler of botocore's event `after-call`: the error is made from its answer."""
    error = parsed.get("Error", {})
    if error.get("Code") in _REFUSED:
        said = str(error.get("Message", ""))
        actions = missing(said) or [action for name, action in _WITHOUT_A_BODY.items() if name == model.name]
        error["Message"] = f"{remedy(actions)}. {said}"
