"""The dated table of prices in prices.yaml, and sums of what has a price."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("prices.yaml")
HOURS_A_MONTH = 730
NOT_IN_THE_SUM = "data through the NAT gateway (a Neuron worker that starts downloads 15 GB), traffic between zones, logs, S3 and ECR"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one kind of resource costs."""

    what: str
    usd_per_hour: float | None
    """Price of all of them together; None: it is not in the table."""
    hours: float = 0.0
    """How long they have existed."""


@cache
def _table() -> dict[str, Any]:
    return dict(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def date() -> str:
    """Date of the table."""
    return str(_table()["date"])


def price(region: str, kind: str, name: str = "") -> float | None:
    """Dollars an hour for one resource of the kind, such as "instances" with the name of its type; None: it is not in the table."""
    if region not in _table()["regions"]:
        return None
    found = _table()[kind]
    value = found.get(name) if name else found
    return None if value is None else float(value)


def volume(region: str, gib: float) -> float | None:
    """Dollars an hour for a gp3 volume of that size."""
    month = price(region, "gp3_gib_month")
    return None if month is None else gib * month / HOURS_A_MONTH


def times(count: float, each: float | None) -> float | None:
    """The price of several of them; None if one has none."""
    return None if each is None else count * each


def total(costs: Iterable[Cost]) -> float:
    """Dollars an hour for all that has a price."""
    return sum(cost.usd_per_hour or 0 for cost in costs)


def unpriced(costs: Iterable[Cost]) -> list[str]:
    """What has no price."""
    return [cost.what for cost in costs if cost.usd_per_hour is None]
