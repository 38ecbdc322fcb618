"""A run that dies, in whatever way and stage, is known to have ended, is swept, and leaves what the next one can work with."""

from __future__ import annotations

from signal import SIGKILL

import deaths
import pytest
from world import Run, World, processes_of

from scripts.follow import look
from scripts.prefect_api import TERMINAL

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
        mortal.until(f"{name} has ended", lambda: look(mortal.services.api, identity).state in TERMINAL)
        assert look(mortal.services.api, identity).state in death.ends
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


def test_after_all_that_the_next_run_converges(killed: Run) -> None:
    assert killed.state == "COMPLETED", killed.sight.message
    assert killed.evidence["verdict"] == "passed", killed.evidence["why"]


def test_after_all_that_a_clean_up_leaves_nothing(killed: Run, world: World) -> None:
    left = world.ask("leftovers")
    assert {service for service in left if not service.startswith("s3")} == set()
    assert world.status().keys() == {"s3 bucket", "stack"}
