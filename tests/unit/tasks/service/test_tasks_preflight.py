"""The manifests of the service keep every rule of lint, whatever the engine; each rule is tried in test_drills_lint.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from blocks.parameters import ENGINES, Engine, Service
from tasks.cluster.redis import Redis
from tasks.service import rayservice
from tasks.service.preflight import IMAGES, check
from tasks.support.paths import ROOT


def ray_service(engine: Engine = "cpu", **service: Any) -> dict[str, Any]:
    objects = rayservice.render(Service(**service), engine, IMAGES, Redis("r", 6379, SecretStr("x" * 16)))
    return next(obj for obj in objects if obj["kind"] == "RayService")


def names(rendered: dict[str, Any]) -> list[str]:
    return [finding.rule.name for finding in check(rendered).findings]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_pipelines_own_manifests_keep_every_rule(engine: Engine) -> None:
    assert names(ray_service(engine)) == []


def test_without_fault_tolerance_that_alone_is_found() -> None:
    assert names(ray_service(gcs_fault_tolerance=False)) == ["GCS fault tolerance"]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("num_replicas", "two replicas or more of everything"),
        ("max_replicas_per_node", "replicas spread over nodes"),
        ("max_queued_requests", "what waits is bounded"),
    ],
)
def test_a_rule_for_deployments_is_checked_on_each_of_them(which: int, option: str, rule: str) -> None:
    changed = copy.deepcopy(ray_service())
    config = yaml.safe_load(changed["spec"]["serveConfigV2"])
    deployment = config["applications"][0]["deployments"][which]
    deployment.pop(option)
    if option == "num_replicas":
        deployment[option] = 1
    changed["spec"]["serveConfigV2"] = yaml.safe_dump(config)
    assert names(changed) == [rule]


def without(variable: str) -> Callable[[dict[str, Any]], None]:
    """A change that takes a variable out of the workers' environment."""

    def change(worker: dict[str, Any]) -> None:
        (container,) = worker["template"]["spec"]["containers"]
        container["env"] = [item for item in container["env"] if item["name"] != variable]

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda worker: worker["template"]["spec"].update(terminationGracePeriodSeconds=5),
        without("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"),
    ],
)
def test_a_shutdown_that_would_cut_the_longest_answer_is_found(change: Callable[[dict[str, Any]], None]) -> None:
    changed = copy.deepcopy(ray_service())
    change(changed["spec"]["rayClusterConfig"]["workerGroupSpecs"][0])
    assert names(changed) == ["what runs may end"]


def test_the_cluster_has_the_version_of_ray_that_every_image_is_locked_to() -> None:
    lists = [path.read_text(encoding="utf-8") for path in (ROOT / "serving" / "images").glob("requirements-*.txt")]
    locked = {line.split()[0] for text in lists for line in text.splitlines() if line.startswith("ray==")}
    assert locked == {f"ray=={ray_service()['spec']['rayClusterConfig']['rayVersion']}"}
