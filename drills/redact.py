"""Keeps secrets out of evidence, such as those that a tool printed into an event."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"

_NAMES = re.compile(
    r"password|passwd|secret|credential|authorization|(?:private|access|api)_?key|auth_?token|hf_?token|session_?token|kubeconfig",
    re.IGNORECASE,
)
_VALUES = re.compile(
    r"hf_[A-Za-z0-9]{16,}"  # Hugging Face
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS access key id
    r"|k8s-aws-v1\.[\w-]+"  # EKS bearer token
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"  # JSON web token
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # user:password in a URL
    r"|(?<=[Bb]earer )[\w.~+/-]{12,}=*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)
_PAIRS = re.compile(
    r"((?:password|secret|auth_?token|hf_?token|session_?token|(?:access|api)_?key)\w*[\"']?\s*[=:]\s*[\"']?)[^\s\"',&]+", re.IGNORECASE
)


def clean(value: Any) -> Any:
    """Return the same value with everything that looks like a secret, or has the name of one, replaced by `***` at any depth."""
    if isinstance(value, str):
        return _PAIRS.sub(rf"\g<1>{HIDDEN}", _VALUES.sub(HIDDEN, value))
    if isinstance(value, dict):
        return {key: HIDDEN if _secret(key, item) else clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(clean(item) for item in value)
    return value


def _secret(name: object, value: Any) -> bool:
    return isinstance(name, str) and not isinstance(value, bool | int | float | None) and bool(value) and _NAMES.search(name) is not None
