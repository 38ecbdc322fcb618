"""Our own manifests keep every rule; each rule is noticed when it is broken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from blocks.parameters import Service
from tasks import rayservice
from tasks.preflight import RULES, findings
from tasks.redis import Redis

Change = Callable[[dict[str, Any]], object]


def ours(**service: Any) -> dict[str, Any]:
    things = rayservice.render(Service(**service), "i", Redis("r", 6379, SecretStr("x" * 16)))
    return next(thing for thing in things if thing["kind"] == "RayService")


def names(ray_service: dict[str, Any]) -> list[str]:
    return [rule.name for rule in findings(ray_service)]


def test_what_we_deploy_keeps_every_rule() -> None:
    assert names(ours()) == []


def test_without_fault_tolerance_that_alone_is_found() -> None:
    assert names(ours(gcs_fault_tolerance=False)) == ["GCS fault tolerance"]


def serve(change: Change) -> Change:
    def changed(spec: dict[str, Any]) -> None:
        config = yaml.safe_load(spec["serveConfigV2"])
        change(config["applications"][0]["deployments"][0])
        spec["serveConfigV2"] = yaml.safe_dump(config)

    return changed


def head(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec["rayClusterConfig"])["headGroupSpec"]  # type: ignore[no-any-return]


def worker(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec["rayClusterConfig"])["workerGroupSpecs"][0]  # type: ignore[no-any-return]


BREAKS: dict[str, Change] = {
    "GCS fault tolerance": lambda s: s["rayClusterConfig"].pop("gcsFaultToleranceOptions"),
    "Redis over TLS": lambda s: s["rayClusterConfig"]["gcsFaultToleranceOptions"].update(redisAddress="redis://r:6379"),
    "head takes no work": lambda s: head(s)["rayStartParams"].update({"num-cpus": "2"}),
    "head out of the serve service": lambda s: s.pop("excludeHeadPodFromServeSvc"),
    "two replicas or more": serve(lambda d: d.update(num_replicas=1)),
    "replicas spread over nodes": serve(lambda d: d.pop("max_replicas_per_node")),
    "workers outlast the head": lambda s: worker(s)["template"]["spec"]["containers"][0].pop("env"),
    "max_ongoing_requests is set": serve(lambda d: d.pop("max_ongoing_requests")),
    "workers have time to drain": lambda s: worker(s)["template"]["spec"].update(terminationGracePeriodSeconds=5),
    "no name for the head service": lambda s: head(s).update(headService={"metadata": {"name": "x"}}),
    "deprecated thresholds are not relied on": lambda s: s.update(serviceUnhealthySecondThreshold=300),
    "one image for head and workers": lambda s: worker(s)["template"]["spec"]["containers"][0].update(image="other"),
}


def test_every_rule_has_a_way_to_break_it() -> None:
    assert set(BREAKS) == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_is_found(name: str) -> None:
    broken = copy.deepcopy(ours())
    BREAKS[name](broken["spec"])
    assert names(broken) == [name]
