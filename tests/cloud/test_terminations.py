"""A run that is ended early, in any way and stage, is recorded as ended and swept, and the next run can continue on what it left."""

from __future__ import annotations

from signal import SIGKILL
from typing import Any

import pytest
import terminations
from system_under_test import Run, System, processes_of

from scripts.services.follow import take_snapshot
from scripts.services.prefect_api import TERMINAL

pytestmark = pytest.mark.long
DRILLING = {"load", "drill lock", "drill journal"}
"""Kinds of a drill's things in the cluster, as `status` names them."""


@pytest.mark.parametrize(("stage", "way"), terminations.cases())
def test_a_run_that_is_ended_early_is_recorded_and_swept_and_status_names_what_it_left(disposable: System, stage: str, way: str) -> None:
    point, termination, deployment = terminations.POINTS[stage], terminations.TERMINATIONS[way], terminations.deployment(stage, way)
    name, identity = disposable.start(deployment)
    try:
        disposable.until_in(name, identity, point.task, point.progress)
        termination.apply(disposable, identity)
        if way == "both":  # Prefect has not detected it yet
            assert {"load", "drill journal"} <= disposable.status().keys()
        disposable.until(f"{name} has ended", lambda: take_snapshot(disposable.services.api, identity).state in TERMINAL)
        assert take_snapshot(disposable.services.api, identity).state in termination.final_states
        disposable.until(f"no process of {name} is left", lambda: not processes_of(identity))
    finally:
        for process in processes_of(identity):
            process.signal(SIGKILL)
    if deployment != "cleanup/main":  # a clean-up has no drill to sweep
        disposable.until(f"{name} was swept", lambda: bool(TERMINAL.intersection(disposable.sweeps_of(identity))))
        assert "COMPLETED" in disposable.sweeps_of(identity)
    left = disposable.status()
    assert point.leftovers <= left.keys()
    assert not DRILLING & left.keys()


@pytest.mark.parametrize("way", ["interrupted", "runner"])
def test_cleanup_removes_what_a_provision_that_was_ended_early_left(disposable: System, way: str) -> None:
    point = terminations.POINTS["provision"]
    name, identity = disposable.start("provision/main")
    disposable.until_in(name, identity, point.task, point.progress)
    terminations.TERMINATIONS[way].apply(disposable, identity)
    disposable.until(f"{name} has ended", lambda: take_snapshot(disposable.services.api, identity).state in TERMINAL)
    assert disposable.run("cleanup/main").state == "COMPLETED"
    assert left_of(disposable) == set()


def test_cleanup_removes_a_cluster_without_any_access_entry_for_the_pipeline(disposable: System, aws: Any) -> None:
    assert disposable.run("provision/main").state == "COMPLETED"
    eks = aws("eks")
    (cluster,) = eks.list_clusters()["clusters"]
    for principal in eks.list_access_entries(clusterName=cluster)["accessEntries"]:
        entry = {"clusterName": cluster, "principalArn": principal}
        if eks.describe_access_entry(**entry)["accessEntry"]["type"] == "STANDARD":
            eks.delete_access_entry(**entry)
    assert disposable.run("cleanup/main").state == "COMPLETED"
    assert left_of(disposable) == set()


def left_of(system: System) -> set[str]:
    """Return the AWS services that still have resources, except the bucket that is meant to stay."""
    return {service for service in system.ask("leftovers") if not service.startswith("s3")}


def test_the_lifecycle_after_all_early_ended_runs_passes(after_kills: Run) -> None:
    assert after_kills.state == "COMPLETED", after_kills.snapshot.message
    assert after_kills.evidence["verdict"] == "passed", after_kills.evidence["why"]


def test_the_lifecycle_after_all_early_ended_runs_leaves_nothing(after_kills: Run, system: System) -> None:
    assert left_of(system) == set()
    assert system.status().keys() == {"s3 bucket", "stack"}
