"""Results of checks, shown as one table; the failed ones together make one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

Result = Literal["ok", "warning", "bad", "not checked"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. A warning refuses nothing; neither does what could not be asked, which is "not checked"."""

    name: str
    result: Result
    detail: str


def show_checks(key: str, checks: Sequence[Check]) -> str:
    """Log the checks and show them as a table; returns all that failed as one text."""
    create_table_artifact(key=key, table=[{"check": c.name, "result": c.result, "detail": c.detail} for c in checks])
    for c in checks:
        (get_run_logger().warning if c.result == "warning" else get_run_logger().info)("%s: %s (%s)", c.name, c.result, c.detail)
    return "; ".join(f"{c.name}: {c.detail}" for c in checks if c.result == "bad")
