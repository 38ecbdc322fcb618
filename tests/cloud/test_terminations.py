"""A run that dies, in whatever way and stage, is known to have ended, is swept, and leaves what the next one can work with."""

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
"""Kinds of what a drill has in the cluster."""


@pytest.mark.parametrize(("stage", "how"), terminations.cases())
def test_a_run_that_dies_has_ended_is_swept_and_what_it_left_is_named(disposable: System, stage: str, how: str) -> None:
    point, termination, deployment = terminations.POINTS[stage], terminations.TERMINATIONS[how], terminations.deployment(stage, how)
    name, identity = disposable.start(deployment)
    try:
        disposable.until_in(name, identity, point.task, point.progress)
        termination.apply(disposable, identity)
        if how == "both":  # nobody knows yet
            assert {"load", "drill journal"} <= disposable.status().keys()
        disposable.until(f"{name} has ended", lambda: take_snapshot(disposable.services.api, identity).state in TERMINAL)
        assert take_snapshot(disposable.services.api, identity).state in termination.final_states
        disposable.until(f"no process of {name} is left", lambda: not processes_of(identity))
    finally:
        for process in processes_of(identity):
            process.signal(SIGKILL)
    if deployment != "cleanup/main":  # which has no drill that could be left
        disposable.until(f"{name} was swept", lambda: bool(TERMINAL.intersection(disposable.sweeps_of(identity))))
        assert "COMPLETED" in disposable.sweeps_of(identity)
    left = disposable.status()
    assert point.leftovers <= left.keys()
    assert not DRILLING & left.keys()


@pytest.mark.parametrize("how", ["interrupted", "runner"])
def test_what_a_dead_provision_left_is_cleaned_up(disposable: System, how: str) -> None:
    point = terminations.POINTS["provision"]
    name, identity = disposable.start("provision/main")
    disposable.until_in(name, identity, point.task, point.progress)
    terminations.TERMINATIONS[how].apply(disposable, identity)
    disposable.until(f"{name} has ended", lambda: take_snapshot(disposable.services.api, identity).state in TERMINAL)
    assert disposable.run("cleanup/main").state == "COMPLETED"
    assert left_of(disposable) == set()


def test_a_cluster_that_lets_us_in_no_more_is_cleaned_up(disposable: System, aws: Any) -> None:
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
    """Services of AWS that still have something, besides the bucket that stays."""
    return {service for service in system.ask("leftovers") if not service.startswith("s3")}


def test_after_all_that_the_next_run_converges(after_kills: Run) -> None:
    assert after_kills.state == "COMPLETED", after_kills.snapshot.message
    assert after_kills.evidence["verdict"] == "passed", after_kills.evidence["why"]


def test_after_all_that_a_clean_up_leaves_nothing(after_kills: Run, system: System) -> None:
    assert left_of(system) == set()
    assert system.status().keys() == {"s3 bucket", "stack"}
