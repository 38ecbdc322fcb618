"""Whether AWS supports the version of Kubernetes for as long as the stack may live."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tasks.support.checks import Check

WARN_DAYS = 90
"""Days before the end of support from which a run warns: long enough to try the next version with a drill."""


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("kubernetes.yaml").read_text(encoding="utf-8"))
    return found


def check_kubernetes(version: str, today: date) -> Check:
    """Check that the version is in EKS's standard support, and not about to leave it.

    It refuses nothing: AWS may have moved a date since, and another cloud has other dates.
    """
    table = _table()
    ends: date | None = table["standard_support_ends"].get(version)
    of = f"by AWS's calendar of {table['as_of']}"
    known = {tuple(map(int, each.split("."))) for each in table["standard_support_ends"]}
    if ends is None and tuple(map(int, version.split("."))) < min(known):
        return Check("Kubernetes", "warning", f"{version} has left EKS's standard support long ago, {of}: raise kubernetes_version")
    if ends is None:
        return Check("Kubernetes", "not checked", f"{of} the end of {version} is not known")
    words = f"standard support of {version} ends on {ends}, {of}"
    if today >= ends:
        return Check("Kubernetes", "warning", f"{words}: EKS upgrades such a cluster itself, and never back; raise kubernetes_version")
    if (ends - today).days < WARN_DAYS:
        return Check("Kubernetes", "warning", f"{words}: raise kubernetes_version before, and try the new one with a drill")
    return Check("Kubernetes", "ok", words)
