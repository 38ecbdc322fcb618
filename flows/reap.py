"""Reaping: stacks whose time has come are removed."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows import stages
from flows.checks import refusable


@flow(name="reap")
@refusable
def reap(target: str = "", warning_min: Annotated[int, Field(ge=0, le=1440)] = 60) -> list[str]:
    """Remove every stack that has expired, wherever an earlier removal ended; one that ends soon is warned of first.

    Args:
        target: Name of the saved leeward-target block whose account and region are looked at; empty: all saved targets that make clusters.
        warning_min: Minutes from the warning to the removal. 0: without a warning.
    """
    return stages.reap(target, warning_min, stages.Run.current())
