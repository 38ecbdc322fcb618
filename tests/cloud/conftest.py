"""The embedded cloud for tests, brought up once, and three lifecycles that many tests look at.

Tests run in the order of what they need, whatever files they stand in:

    cloud         an empty cloud: nothing provisioned
    protected     after `lifecycle/main` with everything left up: the service is there to be looked at
    outdated      (long) with the shape that the service once had, in which not every head's loss goes unnoticed
    cleaned       after a second lifecycle on the same infrastructure, the head killed three times, without grace first, with its clean-up
    unprotected   after a third lifecycle, without GCS fault tolerance; its verdict is "failed", and it cleaned up, too
    scaled        (long) with a service that follows the load, and after its nodes were replaced under it; it cleans up after itself
    mortal        (long) nothing is there: runs may die on it, one after the other, each on what the one before left
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
from world import ELASTIC, SCALED, Run, World

from scripts import stack
from scripts.support.console import Console
from scripts.support.processes import Busy, Process, exclusive_lock
from tests.terminal import Terminal

STAGES = ("cloud", "protected", "outdated", "cleaned", "unprotected", "scaled", "mortal", "killed", "gone")
"""Fixtures, in the order in which the world goes through them."""


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
def world(alone: None, pytestconfig: pytest.Config) -> Iterator[World]:
    """Cloud, Prefect server and worker; what they leave behind is looked at by the tests that need `gone`."""
    console = Console(Terminal(pytestconfig))
    stack.take_down_leftovers(console)
    try:
        yield World(*stack.bring_up(console), console)
    finally:
        stack.take_down(console)


@pytest.fixture(scope="session")
def cloud(world: World) -> World:
    """The empty cloud. A test that makes something in it takes it away again."""
    assert not world.runs, "tests of the empty cloud come first"
    return world


@pytest.fixture(scope="session")
def protected(world: World) -> Run:
    """The first lifecycle: all defaults, everything left up."""
    return world.run("lifecycle/main", keep=True)


@pytest.fixture(scope="session")
def outdated(world: World, protected: Run) -> World:
    """The service in the shape that it once had. The next deployment brings it to today's."""
    world.replace_service(old_shape.overlay)
    return world


@pytest.fixture(scope="session")
def cleaned(world: World, protected: Run) -> Run:
    """The second lifecycle, on the infrastructure of the first: a series of three faults, without grace, with it, and without, then all
    cleaned up."""
    return world.run("lifecycle/main", drill="head-pod-forced", repeat=3, graces="in-turn")


@pytest.fixture(scope="session")
def unprotected(request: pytest.FixtureRequest, world: World) -> Run:
    """The third lifecycle: the same drill as the first's, without Redis, and on nodes of a managed group."""
    _clean_up_first(request, world)
    return world.run("lifecycle/main", infrastructure={"enable_gcs_ha": False, "inf2_nodes": {"provisioner": "managed"}})


def _clean_up_first(request: pytest.FixtureRequest, world: World) -> None:
    """When the first lifecycle's infrastructure is there, the second has taken it away."""
    if world.runs:
        request.getfixturevalue("cleaned")


@pytest.fixture(scope="session")
def scaled(request: pytest.FixtureRequest, world: World) -> Iterator[World]:
    """A service of one worker that may become two."""
    _clean_up_first(request, world)
    for deployment, more in (("provision/main", {}), ("deploy/main", {"service": SCALED})):
        run = world.run(deployment, infrastructure=ELASTIC, **more)
        assert run.state == "COMPLETED", run.snapshot.message
    yield world
    assert world.run("cleanup/main", service=SCALED).state == "COMPLETED"


@pytest.fixture(scope="session")
def mortal(request: pytest.FixtureRequest, world: World) -> World:
    """A world in which nothing else is looked at any more until a lifecycle has run to its end."""
    _clean_up_first(request, world)
    return world


@pytest.fixture(scope="session")
def killed(mortal: World) -> Run:
    """A lifecycle that ran to its end on what all those that died had left."""
    return mortal.run("lifecycle/main")


@pytest.fixture(scope="session")
def gone(world: World) -> World:
    """Cloud and Prefect have been taken down, after all that any other test needs of them."""
    stack.take_down(world.console)
    return world


@pytest.fixture(scope="session")
def session(world: World) -> boto3.Session:
    """boto3 as the cloud's user; the endpoint is in its clients by way of `aws`."""
    return boto3.Session(world.endpoint["access_key_id"], world.endpoint["secret_access_key"], region_name=world.endpoint["region"])


@pytest.fixture(scope="session")
def aws(session: boto3.Session, world: World):  # type: ignore[no-untyped-def]  # boto3's clients have no types
    """Makes a client of a service of the embedded AWS: `aws("eks")`."""
    config = Config(retries={"total_max_attempts": 2})
    return lambda service: session.client(service, endpoint_url=world.endpoint["endpoint_url"], config=config)


@pytest.fixture(scope="session")
def aws_environment(world: World) -> dict[str, str]:
    """The environment that makes any AWS tool use the embedded cloud, for subprocesses."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **clean,
        "AWS_ENDPOINT_URL": world.endpoint["endpoint_url"],
        "AWS_REGION": world.endpoint["region"],
        "AWS_DEFAULT_REGION": world.endpoint["region"],
        "AWS_ACCESS_KEY_ID": world.endpoint["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": world.endpoint["secret_access_key"],
    }
