"""What only a surge asks the cluster: its nodes, and how many requests new engines have answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes_server import Server, serving

from blocks.parameters import Service
from drills.kubernetes.api import Api
from drills.runner.acts import multiply_load
from drills.runner.observer import Observer

PODS = "/api/v1/namespaces/mistral/pods"
SUBJECT = Service().subject


@pytest.fixture
def pair() -> Iterator[tuple[Server, Api]]:
    with serving() as found:
        yield found


def node(name: str, pool: str, *, ready: bool = True) -> dict[str, Any]:
    labels = {"leeward.dev/pool": pool, "karpenter.sh/nodepool": pool}
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


def test_nodes_that_are_ready_and_those_being_launched_are_observed_if_they_are_asked_for(pair: tuple[Server, Api]) -> None:
    server, api = pair
    for one in (node("n1", "inf2"), node("n2", "inf2", ready=False), node("core", "core")):
        server.objects[f"/api/v1/nodes/{one['metadata']['name']}"] = one
    for one in (node("c1", "inf2"), node("c2", "inf2"), node("c3", "core")):
        server.objects[f"/apis/karpenter.sh/v1/nodeclaims/{one['metadata']['name']}"] = one
    with Observer(api, SUBJECT, nodes=True) as observer:
        found = observer.take_snapshot(ask=False)
    assert (found.nodes, found.claims, found.launched) == (("n1",), ("c1", "c2"), 2)
    assert found.sets is None, "not asked is not none"
    with Observer(api, SUBJECT) as observer:
        assert observer.take_snapshot(ask=False).nodes is None


def test_the_answers_of_new_engines_are_read_from_their_metrics_and_may_be_zero(pair: tuple[Server, Api]) -> None:
    server, api = pair
    engine = 'ray_leeward_slots{replica="a"} 8.0\n'
    text = (
        f"# HELP ray_leeward_requests_total x\n{engine}"
        'ray_leeward_requests{Component="c",outcome="finished",replica="a"} 9.0\n'
        'ray_leeward_requests_total{Component="c",outcome="finished",replica="a"} 7.0\n'
        'ray_leeward_requests_total{outcome="cancelled",replica="a"} 2.0\n'
        'ray_leeward_requests_total{outcome="finished",replica="b"} 1.2e+02\n'
    )
    server.answers["GET", f"{PODS}/w3:8080/proxy/metrics"] = (200, text.encode())
    server.answers["GET", f"{PODS}/w4:8080/proxy/metrics"] = (200, b"ray_other 1\n")
    server.answers["GET", f"{PODS}/w5:8080/proxy/metrics"] = (503, b"")
    server.answers["GET", f"{PODS}/w6:8080/proxy/metrics"] = (200, engine.encode())
    assert multiply_load.count_answered(api, SUBJECT, ["w3", "w4", "w5", "w6"]) == {"w3": 127, "w6": 0}
