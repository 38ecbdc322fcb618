"""Fixtures of the unit tests. What is slow to import is imported by the fixture that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from embedded_aws import EmbeddedAws

pytest.register_assert_rewrite("embedded_aws", "terraform_runs")


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[EmbeddedAws]:
    """One embedded AWS for all tests: its books are one per process."""
    from embedded_aws import EmbeddedAws

    embedded = EmbeddedAws()
    yield embedded
    embedded.endpoint.stop()


@pytest.fixture
def aws(aws_endpoint: EmbeddedAws) -> EmbeddedAws:
    """The embedded AWS with nothing in it but users and roles."""
    aws_endpoint.fresh()
    return aws_endpoint
