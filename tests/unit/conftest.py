"""Fixtures of the unit tests. What is slow to import is imported by the fixture that needs it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from embedded_aws import EmbeddedAws
    from kubernetes_server import Server

    from drills.kubernetes.api import Api

pytest.register_assert_rewrite("embedded_aws", "terraform_runs")

# No test says how fast anything is: the machine may have other things to do.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A garbage collection of the oldest generation looks at all of Prefect, moto and Ray, of which nothing ever goes: there is none
# while they are imported, later ones leave them out, and are a tenth as often. That saves a fifth of the CPU.
gc.set_threshold(gc.get_threshold()[0], gc.get_threshold()[1], 100)
gc.disable()

# A flow or a task that a test calls fails at once where Prefect would start a server of its own, which takes 20 s and outlives a kill.
os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"

WITHIN_S = 600
"""Deadline in seconds of a test without one of its own; it includes the fixtures that the test is the first to need."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of this folder that has no time-out of its own gets one; those of other folders may stand beside it."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(WITHIN_S))


def pytest_collection_finish() -> None:
    """What has been imported stays, and is not looked at again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[EmbeddedAws]:
    """One embedded AWS for all tests of this process: moto's backends are global."""
    from embedded_aws import EmbeddedAws

    embedded = EmbeddedAws()
    yield embedded
    embedded.endpoint.stop()


@pytest.fixture
def aws(aws_endpoint: EmbeddedAws) -> EmbeddedAws:
    """The embedded AWS with nothing in it but users and roles."""
    aws_endpoint.fresh()
    return aws_endpoint


@pytest.fixture
def pair() -> Iterator[tuple[Server, Api]]:
    """An API server in this process that has nothing yet, and its client."""
    from kubernetes_server import serving

    with serving() as both:
        yield both
