"""The pipeline's manifests keep every preflight rule, and a broken rule is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from blocks.parameters import ENGINES, Engine, Service
from tasks.cluster.redis import Redis
from tasks.images.publish import ImageRefs
from tasks.service import rayservice
from tasks.service.preflight import RULES, findings

Change = Callable[[dict[str, Any]], object]


def ours(engine: Engine = "cpu", **service: Any) -> dict[str, Any]:
    things = rayservice.render(Service(**service), engine, ImageRefs(head="h", worker="w"), Redis("r", 6379, SecretStr("x" * 16)))
    return next(thing for thing in things if thing["kind"] == "RayService")


def names(ray_service: dict[str, Any]) -> list[str]:
    return [rule.name for rule in findings(ray_service)]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_pipelines_own_manifests_keep_every_rule(engine: Engine) -> None:
    assert names(ours(engine)) == []


def test_without_fault_tolerance_only_its_rule_is_broken() -> None:
    assert names(ours(gcs_fault_tolerance=False)) == ["GCS fault tolerance"]


def serve(change: Change, which: int = 0) -> Change:
    def changed(spec: dict[str, Any]) -> None:
        config = yaml.safe_load(spec["serveConfigV2"])
        change(config["applications"][0]["deployments"][which])
        spec["serveConfigV2"] = yaml.safe_dump(config)

    return changed


def head(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec["rayClusterConfig"])["headGroupSpec"]  # type: ignore[no-any-return]


def worker(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec["rayClusterConfig"])["workerGroupSpecs"][0]  # type: ignore[no-any-return]


def without_variable(name: str, group: Callable[[dict[str, Any]], dict[str, Any]] = worker) -> Change:
    def changed(spec: dict[str, Any]) -> None:
        (container,) = group(spec)["template"]["spec"]["containers"]
        container["env"] = [item for item in container["env"] if item["name"] != name]

    return changed


BREAKS: dict[str, Change] = {
    "GCS fault tolerance": lambda s: s["rayClusterConfig"].pop("gcsFaultToleranceOptions"),
    "Redis over TLS": lambda s: s["rayClusterConfig"]["gcsFaultToleranceOptions"].update(redisAddress="redis://r:6379"),
    "head takes no work": lambda s: head(s)["rayStartParams"].update({"num-cpus": "2"}),
    "head out of the serve service": lambda s: s.pop("excludeHeadPodFromServeSvc"),
    "two replicas or more of everything": serve(lambda d: d.update(num_replicas=1)),
    "replicas spread over nodes": serve(lambda d: d.pop("max_replicas_per_node")),
    "workers outlast the head": without_variable("RAY_gcs_rpc_server_reconnect_timeout_s"),
    "max_ongoing_requests is set": serve(lambda d: d.pop("max_ongoing_requests")),
    "workers have time to drain": lambda s: worker(s)["template"]["spec"].update(terminationGracePeriodSeconds=5),
    "no name for the head service": lambda s: head(s)["headService"].update(metadata={"name": "x"}),
    "the head's address stays": lambda s: head(s).pop("headService"),
    "deprecated thresholds are not relied on": lambda s: s.update(serviceUnhealthySecondThreshold=300),
    "what waits is bounded": serve(lambda d: d.pop("max_queued_requests")),
    "replicas have time to be taken over": without_variable("RAY_SERVE_SLOW_STARTUP_WARNING_S", head),
    "one Ray in all images": lambda s: s["rayClusterConfig"].update(rayVersion="2.59.0"),
}


def test_every_rule_has_a_way_to_break_it() -> None:
    assert set(BREAKS) == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_is_found(name: str) -> None:
    broken = copy.deepcopy(ours())
    BREAKS[name](broken["spec"])
    assert names(broken) == [name]


@pytest.mark.parametrize("name", ["two replicas or more of everything", "replicas spread over nodes", "what waits is bounded"])
def test_a_rule_for_deployments_holds_for_each_of_them(name: str) -> None:
    keys = {"two replicas or more of everything": "num_replicas", "replicas spread over nodes": "max_replicas_per_node"}
    broken = copy.deepcopy(ours())
    serve(lambda d: d.pop(keys.get(name, "max_queued_requests")), which=1)(broken["spec"])
    assert names(broken) == [name]


@pytest.mark.parametrize(
    "change",
    [
        serve(lambda d: d.update(graceful_shutdown_timeout_s=44)),
        serve(lambda d: d.update(graceful_shutdown_timeout_s=56), which=1),
        without_variable("LEEWARD_DEADLINE_S"),
        without_variable("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"),
    ],
)
def test_a_shutdown_that_would_cut_the_longest_answer_is_found(change: Change) -> None:
    broken = copy.deepcopy(ours())
    change(broken["spec"])
    assert names(broken) == ["workers have time to drain"]
