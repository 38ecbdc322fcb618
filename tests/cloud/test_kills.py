"""A run that dies, in whatever way and stage, is known to have ended, is swept, and leaves what the next one can work with."""

from __future__ import annotations

from signal import SIGKILL
from typing import Any

import deaths
import pytest
from world import Run, World, processes_of

from scripts.services.follow import take_snapshot
from scripts.services.prefect_api import TERMINAL

pytestmark = pytest.mark.long
DRILLING = {"load", "drill lock", "drill journal"}
"""Kinds of what a drill has in the cluster."""


@pytest.mark.parametrize(("stage", "way"), deaths.cases())
def test_a_run_that_dies_has_ended_is_swept_and_what_it_left_is_named(mortal: World, stage: str, way: str) -> None:
    moment, death, deployment = deaths.STAGES[stage], deaths.WAYS[way], deaths.deployment(stage, way)
    name, identity = mortal.start(deployment)
    try:
        mortal.until_in(name, identity, moment.task, moment.progress)
        death.do(mortal, identity)
        if way == "both":  # nobody knows yet
            assert {"load", "drill journal"} <= mortal.status().keys()
        mortal.until(f"{name} has ended", lambda: take_snapshot(mortal.services.api, identity).state in TERMINAL)
        assert take_snapshot(mortal.services.api, identity).state in death.ends
        mortal.until(f"no process of {name} is left", lambda: not processes_of(identity))
    finally:
        for process in processes_of(identity):
            process.signal(SIGKILL)
    if deployment != "cleanup/main":  # which has no drill that could be left
        mortal.until(f"{name} was swept", lambda: bool(TERMINAL.intersection(mortal.sweeps_of(identity))))
        assert "COMPLETED" in mortal.sweeps_of(identity)
    left = mortal.status()
    assert moment.named <= left.keys()
    assert not DRILLING & left.keys()


@pytest.mark.parametrize("way", ["interrupted", "runner"])
def test_what_a_dead_provision_left_is_cleaned_up(mortal: World, way: str) -> None:
    moment = deaths.STAGES["provision"]
    name, identity = mortal.start("provision/main")
    mortal.until_in(name, identity, moment.task, moment.progress)
    deaths.WAYS[way].do(mortal, identity)
    mortal.until(f"{name} has ended", lambda: take_snapshot(mortal.services.api, identity).state in TERMINAL)
    assert mortal.run("cleanup/main").state == "COMPLETED"
    assert left_of(mortal) == set()


def test_a_cluster_that_lets_us_in_no_more_is_cleaned_up(mortal: World, aws: Any) -> None:
    assert mortal.run("provision/main").state == "COMPLETED"
    eks = aws("eks")
    (cluster,) = eks.list_clusters()["clusters"]
    for principal in eks.list_access_entries(clusterName=cluster)["accessEntries"]:
        entry = {"clusterName": cluster, "principalArn": principal}
        if eks.describe_access_entry(**entry)["accessEntry"]["type"] == "STANDARD":
            eks.delete_access_entry(**entry)
    assert mortal.run("cleanup/main").state == "COMPLETED"
    assert left_of(mortal) == set()


def left_of(world: World) -> set[str]:
    """Services of AWS that still have something, besides the bucket that stays."""
    return {service for service in world.ask("leftovers") if not service.startswith("s3")}


def test_after_all_that_the_next_run_converges(killed: Run) -> None:
    assert killed.state == "COMPLETED", killed.snapshot.message
    assert killed.evidence["verdict"] == "passed", killed.evidence["why"]


def test_after_all_that_a_clean_up_leaves_nothing(killed: Run, world: World) -> None:
    assert left_of(world) == set()
    assert world.status().keys() == {"s3 bucket", "stack"}
