"""A run that was killed leaves something the next one can work with."""

from __future__ import annotations

import pytest
from world import Run, World

pytestmark = pytest.mark.long


def test_after_a_kill_in_every_stage_the_next_run_converges(killed: Run) -> None:
    assert killed.state == "COMPLETED", killed.sight.message
    assert killed.evidence["verdict"] == "passed", killed.evidence["why"]


def test_after_kills_too_a_clean_up_leaves_nothing(killed: Run, world: World) -> None:
    left = world.ask("leftovers")
    assert {service for service in left if not service.startswith("s3")} == set()


def test_every_crash_asked_for_a_sweep(killed: Run, world: World) -> None:
    api = world.services.api
    flows = {flow["name"]: flow["id"] for flow in api.post("/flows/filter", {})}
    sweeps = api.post("/flow_runs/filter", {"flows": {"id": {"any_": [flows["sweep"]]}}})
    crashed = api.post("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}})
    assert len(crashed) == 3
    assert len(sweeps) >= len(crashed)
