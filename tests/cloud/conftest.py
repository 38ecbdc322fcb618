"""The embedded cloud for tests, brought up once, and three lifecycles that many tests examine.

Tests run in the order of the stages that they need, independent of the files they are in:

    cloud         an empty cloud: nothing is provisioned
    protected     after `lifecycle/main` with everything left up: the running service can be examined
    struck        the same service after faults other than the loss of its head, and beside services of others
    outdated      (long) with an earlier shape of the service, in which some deletions of the head cause losses
    cleaned       after a second lifecycle on the same infrastructure, which kills the head twice, first without grace, and cleans up
    unprotected   after a third lifecycle, without GCS fault tolerance; its verdict is "failed", and it cleans up too
    scaled        (long) with a service that follows the load, and after its nodes were replaced under load; cleans up after itself
    disposable    (long) with nothing provisioned: runs are killed in it, one after the other, each on what the previous one left
    after_kills   (long) after all of them and a lifecycle that ran to its end
    taken_down    after the cloud and Prefect were taken down

When the flow run of a lifecycle fails, every test that needs it fails with the run's state and the path of its log.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

import bare_cluster
import boto3
import old_shape
import pytest
import strangers
from botocore.config import Config
from system_under_test import ELASTIC, SCALED, SHORT, Run, System

from scripts import stack
from scripts.support.console import Console
from scripts.support.processes import Busy, Process, exclusive_lock
from tests.terminal import Terminal

STAGES = ("cloud", "protected", "struck", "outdated", "cleaned", "unprotected", "scaled", "disposable", "after_kills", "taken_down")
"""Fixtures, in the order in which the system passes through them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by the latest stage they need; within a stage the order of collection stays."""
    items.sort(key=_stage)


def _stage(item: pytest.Item) -> int:
    # A stage may also be the value of a parameter, for tests that examine several stages.
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    needed = {*getattr(item, "fixturenames", ()), *map(str, given)} & set(STAGES)
    return max(map(STAGES.index, needed), default=-1)


@pytest.fixture(scope="session")
def alone() -> Iterator[None]:
    """The lock of the machine's one cloud: `./test` holds it already, or the fixture takes it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive_lock(stack.LOCK))
        except Busy as busy:
            if busy.holder != Process.find(os.getppid()):
                raise
        yield


@pytest.fixture(scope="session")
def system(alone: None, pytestconfig: pytest.Config) -> Iterator[System]:
    """Cloud, Prefect server and worker; the tests that need `taken_down` examine what they leave behind."""
    console = Console(Terminal(pytestconfig))
    stack.take_down_leftovers(console)
    try:
        yield System(*stack.bring_up(console), console)
    finally:
        stack.take_down(console)


@pytest.fixture(scope="session")
def cloud(system: System) -> System:
    """The empty cloud. A test that creates something in it deletes it again."""
    assert not system.runs, "tests of the empty cloud come first"
    return system


@pytest.fixture(scope="session")
def protected(system: System) -> Run:
    """The first lifecycle: all defaults, everything left up."""
    return system.run("lifecycle/main", keep=True)


@pytest.fixture(scope="session")
def struck(protected: Run) -> Run:
    """The first lifecycle, for tests that move its workers or bring other services: they come after those that look at it."""
    return protected


@pytest.fixture(scope="session")
def kubectl(struck: Run, system: System) -> strangers.Kubectl:
    """A kubectl with the rights of the pipeline, for a cluster in which the operator runs."""

    def run(*arguments: str) -> str:
        done = system.kubectl(*arguments, within_s=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def images(kubectl: strangers.Kubectl) -> dict[str, str]:
    """Images that the nodes can pull, by the names in the manifests of services of others, without tags."""
    service = json.loads(kubectl("-n", "mistral", "get", "rayservice", "mistral", "-o", "json"))
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    return {"rayproject/ray": head["image"], "redis": bare_cluster.push_redis()}


@pytest.fixture(scope="session")
def outdated(system: System, protected: Run) -> System:
    """The service in an earlier shape. The next deployment brings it to the present one."""
    system.replace_service(old_shape.overlay)
    return system


@pytest.fixture(scope="session")
def cleaned(system: System, protected: Run) -> Run:
    """The second lifecycle, on the infrastructure of the first: a series of two faults, without and with grace, then a clean-up."""
    return system.run("lifecycle/main", drill="head-pod-forced", repeat=2, graces="in-turn", timing=SHORT)


@pytest.fixture(scope="session")
def unprotected(request: pytest.FixtureRequest, system: System) -> Run:
    """The third lifecycle: the drill of the first one without Redis, on nodes of a managed group, and without the chat."""
    _clean_up_first(request, system)
    infrastructure = {"enable_gcs_ha": False, "inf2_nodes": {"provisioner": "managed"}}
    return system.run("lifecycle/main", infrastructure=infrastructure, service={"chat": False}, timing=SHORT)


def _clean_up_first(request: pytest.FixtureRequest, system: System) -> None:
    """Run the second lifecycle, which cleans up, if there is infrastructure of the first one."""
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
    """A system without infrastructure, in which no other test needs anything until `after_kills`."""
    _clean_up_first(request, system)
    return system


@pytest.fixture(scope="session")
def after_kills(disposable: System) -> Run:
    """A lifecycle that ran to its end on what all the killed runs had left."""
    return disposable.run("lifecycle/main")


@pytest.fixture(scope="session")
def taken_down(system: System) -> System:
    """Cloud and Prefect, taken down after every test that needs them."""
    stack.take_down(system.console)
    return system


@pytest.fixture(scope="session")
def session(system: System) -> boto3.Session:
    """A boto3 session as the cloud's user; `aws` adds the endpoint to its clients."""
    return boto3.Session(system.endpoint["access_key_id"], system.endpoint["secret_access_key"], region_name=system.endpoint["region"])


@pytest.fixture(scope="session")
def aws(session: boto3.Session, system: System):  # type: ignore[no-untyped-def]  # boto3's clients have no types
    """A function that returns a client of a service of the embedded AWS: `aws("eks")`."""
    config = Config(retries={"total_max_attempts": 2})
    return lambda service: session.client(service, endpoint_url=system.endpoint["endpoint_url"], config=config)


@pytest.fixture(scope="session")
def aws_environment(system: System) -> dict[str, str]:
    """Environment for subprocesses in which any AWS tool uses the embedded cloud."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **clean,
        "AWS_ENDPOINT_URL": system.endpoint["endpoint_url"],
        "AWS_REGION": system.endpoint["region"],
        "AWS_DEFAULT_REGION": system.endpoint["region"],
        "AWS_ACCESS_KEY_ID": system.endpoint["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": system.endpoint["secret_access_key"],
    }
