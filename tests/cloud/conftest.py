"""The embedded cloud for tests, brought up once, and three lifecycles that many tests look at.

Tests run in the order of what they need, whatever files they stand in:

    cloud         an empty cloud: nothing provisioned
    protected     after `lifecycle/main` with everything left up: the service is there to be looked at
    outdated      (long) with the shape that the service once had, in which not every head's loss goes unnoticed
    cleaned       after a second lifecycle on the same infrastructure, the head killed three times, without grace first, with its clean-up
    unprotected   after a third lifecycle, without GCS fault tolerance; its verdict is "failed", and it cleaned up, too
    scaled        (long) with a service that follows the load, and after its nodes were replaced under it; it cleans up after itself
    disposable        (long) nothing is there: runs may die on it, one after the other, each on what the one before left
    killed        (long) after all of them, and one that was let run to its end
    gone          after the cloud and Prefect were taken down

A lifecycle whose flow run goes wrong fails every test that needs it, with the run's state and its log's place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import boto3
import old_shape
import pytest
from botocore.config import Config
from system_under_test import ELASTIC, SCALED, Run, System

from scripts import stack
from scripts.support.console import Console
from scripts.support.processes import Busy, Process, exclusive_lock
from tests.terminal import Terminal

STAGES = ("cloud", "protected", "outdated", "cleaned", "unprotected", "scaled", "disposable", "after_kills", "taken_down")
"""Fixtures, in the order in which the system goes through them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests by the latest stage they need; within a stage, as collected."""
    items.sort(key=_stage)


def _stage(item: pytest.Item) -> int:
    # A stage may also be the value of a parameter, for tests that look at several.
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    needed = {*getattr(item, "fixturenames", ()), *map(str, given)} & set(STAGES)
    return max(map(STAGES.index, needed), default=-1)


@pytest.fixture(scope="session")
def alone() -> Iterator[None]:
    """Nobody else uses the machine's one cloud: `./test` holds the lock for us, or we take it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive_lock(stack.LOCK))
        except Busy as busy:
            if busy.holder != Process.find(os.getppid()):
                raise
        yield


@pytest.fixture(scope="session")
def system(alone: None, pytestconfig: pytest.Config) -> Iterator[System]:
    """Cloud, Prefect server and worker; what they leave behind is looked at by the tests that need `taken_down`."""
    console = Console(Terminal(pytestconfig))
    stack.take_down_leftovers(console)
    try:
        yield System(*stack.bring_up(console), console)
    finally:
        stack.take_down(console)


@pytest.fixture(scope="session")
def cloud(system: System) -> System:
    """The empty cloud. A test that makes something in it takes it away again."""
    assert not system.runs, "tests of the empty cloud come first"
    return system


@pytest.fixture(scope="session")
def protected(system: System) -> Run:
    """The first lifecycle: all defaults, everything left up."""
    return system.run("lifecycle/main", keep=True)


@pytest.fixture(scope="session")
def outdated(system: System, protected: Run) -> System:
    """The service in the shape that it once had. The next deployment brings it to today's."""
    system.replace_service(old_shape.overlay)
    return system


@pytest.fixture(scope="session")
def cleaned(system: System, protected: Run) -> Run:
    """The second lifecycle, on the infrastructure of the first: a series of three faults, without grace, with it, and without, then all
    cleaned up."""
    return system.run("lifecycle/main", drill="head-pod-forced", repeat=3, graces="in-turn")


@pytest.fixture(scope="session")
def unprotected(request: pytest.FixtureRequest, system: System) -> Run:
    """The third lifecycle: the same drill as the first's, without Redis, and on nodes of a managed group."""
    _clean_up_first(request, system)
    return system.run("lifecycle/main", infrastructure={"enable_gcs_ha": False, "inf2_nodes": {"provisioner": "managed"}})


def _clean_up_first(request: pytest.FixtureRequest, system: System) -> None:
    """When the first lifecycle's infrastructure is there, the second has taken it away."""
    if system.runs:
        request.getfixturevalue("cleaned")


@pytest.fixture(scope="session")
def scaled(request: pytest.FixtureRequest, system: System) -> Iterator[System]:
    """A service of one worker that may become two."""
    _clean_up_first(request, system)
    for deployment, more in (("provision/main", {}), ("deploy/main", {"service": SCALED})):
        run = system.run(deployment, infrastructure=ELASTIC, **more)
        assert run.state == "COMPLETED", run.snapshot.message
    yield system
    assert system.run("cleanup/main", service=SCALED).state == "COMPLETED"


@pytest.fixture(scope="session")
def disposable(request: pytest.FixtureRequest, system: System) -> System:
    """A system in which nothing else is looked at any more until a lifecycle has run to its end."""
    _clean_up_first(request, system)
    return system


@pytest.fixture(scope="session")
def after_kills(disposable: System) -> Run:
    """A lifecycle that ran to its end on what all those that died had left."""
    return disposable.run("lifecycle/main")


@pytest.fixture(scope="session")
def taken_down(system: System) -> System:
    """Cloud and Prefect have been taken down, after all that any other test needs of them."""
    stack.take_down(system.console)
    return system


@pytest.fixture(scope="session")
def session(system: System) -> boto3.Session:
    """boto3 as the cloud's user; the endpoint is in its clients by way of `aws`."""
    return boto3.Session(system.endpoint["access_key_id"], system.endpoint["secret_access_key"], region_name=system.endpoint["region"])


@pytest.fixture(scope="session")
def aws(session: boto3.Session, system: System):  # type: ignore[no-untyped-def]  # boto3's clients have no types
    """Makes a client of a service of the embedded AWS: `aws("eks")`."""
    config = Config(retries={"total_max_attempts": 2})
    return lambda service: session.client(service, endpoint_url=system.endpoint["endpoint_url"], config=config)


@pytest.fixture(scope="session")
def aws_environment(system: System) -> dict[str, str]:
    """The environment that makes any AWS tool use the embedded cloud, for subprocesses."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **clean,
        "AWS_ENDPOINT_URL": system.endpoint["endpoint_url"],
        "AWS_REGION": system.endpoint["region"],
        "AWS_DEFAULT_REGION": system.endpoint["region"],
        "AWS_ACCESS_KEY_ID": system.endpoint["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": system.endpoint["secret_access_key"],
    }
