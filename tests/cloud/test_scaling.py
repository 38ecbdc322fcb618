"""A service that follows its load, with the real Serve, autoscaler and Karpenter; and the replacement of nodes under load."""

from __future__ import annotations

import pytest
from system_under_test import ELASTIC, SCALED, System

pytestmark = pytest.mark.long
QUICK = {"infrastructure": ELASTIC, "service": SCALED, "surge_s": 45}
OTHER_AMI = {**ELASTIC, "karpenter": {"empty_for_s": 30, "ami_alias": "al2023@v20260423"}}


@pytest.mark.parametrize("fault", ["none", "head-pod"])
def test_twice_the_load_adds_a_worker_and_a_node_both_go_afterwards_and_no_request_fails(scaled: System, fault: str) -> None:
    run = scaled.run("surge/main", fault=fault, **QUICK)
    assert run.evidence["verdict"] == "passed", run.evidence["why"]
    assert len(run.evidence["strikes"]) == 1 + (fault != "none")
    assert run.state == "COMPLETED"


def test_a_newer_ami_alone_changes_nothing_and_refresh_replaces_the_node(scaled: System) -> None:
    before = _nodes(scaled)
    assert scaled.run("provision/main", infrastructure=OTHER_AMI).state == "COMPLETED"
    scaled.until("Karpenter reports the node as drifted", lambda: "AMIDrift" in scaled.kubectl("get", "nodeclaims", "-o", "yaml").stdout)
    assert _nodes(scaled) == before
    run = scaled.run("refresh/main", infrastructure=OTHER_AMI, service=SCALED)
    assert run.state == "COMPLETED", run.snapshot.message
    assert not _nodes(scaled) & before


def _nodes(system: System) -> set[str]:
    return set(system.kubectl("get", "nodes", "-l", "leeward.dev/pool=inf2", "-o", "name").stdout.split())
