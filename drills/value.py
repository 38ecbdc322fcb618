"""The base class of all values in drills/: frozen, strict about names, described field by field."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(allow_inf_nan=False)]
"""A moment (seconds since the epoch) or a duration; never NaN, so that comparisons mean something."""


class Value(BaseModel):
    """A frozen value. An unknown field is an error: a misspelt key in a YAML file must not be ignored.

    The docstring under a field is its description, also in the forms of the Prefect UI.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def rounded(value: float | None) -> float | None:
    """Return the value rounded to three decimals, as evidence has it; None stays None."""
    return None if value is None else round(value, 3)
