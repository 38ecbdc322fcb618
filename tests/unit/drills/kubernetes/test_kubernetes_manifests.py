"""Manifests are filled with typed values; missing and unknown values are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from blocks.parameters import ENGINES, Engine, Service
from drills.kubernetes import manifests
from drills.kubernetes.manifests import BadManifest
from tasks.cluster.redis import Redis
from tasks.images.publish import ImageRefs
from tasks.service import rayservice

REDIS = Redis("10.213.0.20", 6379, SecretStr("very-secret-token"), "-----BEGIN CERTIFICATE-----")


def load(tmp_path: Path, text: str, /, **values: Any) -> list[dict[str, Any]]:
    (tmp_path / "x.yaml").write_text(text)
    return manifests.load("x", values, tmp_path)


def test_a_value_keeps_its_type(tmp_path: Path) -> None:
    (thing,) = load(tmp_path, "n: ${count}\nargs: ${words}\nname: ${name}", count=2, words=["a", "b"], name="x")
    assert thing == {"n": 2, "args": ["a", "b"], "name": "x"}


def test_a_value_cannot_change_the_structure_around_it(tmp_path: Path) -> None:
    (thing,) = load(tmp_path, "a: ${text}", text="x\nb: injected: {")
    assert thing == {"a": "x\nb: injected: {"}


def test_only_whole_scalars_are_placeholders(tmp_path: Path) -> None:
    (thing,) = load(tmp_path, "a: x-${name}\nb: $NAME\nc: ${name}", name="n")
    assert thing == {"a": "x-${name}", "b": "$NAME", "c": "n"}


def test_a_placeholder_without_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="nothing"):
        load(tmp_path, "a: ${nothing}")


def test_a_value_without_a_placeholder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="nmae"):
        load(tmp_path, "a: 1", nmae="x")


def test_fragments_merge_mappings_by_key_and_named_lists_by_name() -> None:
    base = {"spec": {"a": 1, "containers": [{"name": "head", "env": [{"name": "A", "value": "1"}]}, {"name": "side"}], "args": ["x"]}}
    over = {"spec": {"b": 2, "containers": [{"name": "head", "env": [{"name": "B", "value": "2"}]}], "args": ["y"]}}
    assert manifests.merge(base, over) == {
        "spec": {
            "a": 1,
            "b": 2,
            "containers": [{"name": "head", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}, {"name": "side"}],
            "args": ["y"],
        }
    }


def test_merging_changes_neither_of_the_two() -> None:
    base, over = {"a": {"x": 1}}, {"a": {"y": 2}}
    manifests.merge(base, over)
    assert (base, over) == ({"a": {"x": 1}}, {"a": {"y": 2}})


IMAGES = ImageRefs(head="registry/x@sha256:0", worker="registry/x@sha256:1")


def kinds(things: list[dict[str, Any]]) -> list[str]:
    return [thing["kind"] for thing in things]


def ray_service(things: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [thing for thing in things if thing["kind"] == "RayService"]
    return found


def test_the_service_is_rendered_without_its_namespace() -> None:
    things = rayservice.render(Service(), "cpu", IMAGES, REDIS)
    assert "Namespace" not in kinds(things)
    assert {"Secret", "ConfigMap", "PodDisruptionBudget", "RayService"} <= set(kinds(things))
    assert "${" not in yaml.safe_dump_all(things)


@pytest.mark.parametrize("engine", ENGINES)
def test_head_and_workers_have_each_their_image_and_the_workers_know_their_engine(engine: Engine) -> None:
    cluster = ray_service(rayservice.render(Service(), engine, IMAGES, None))["spec"]["rayClusterConfig"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    (worker,) = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    assert (head["image"], worker["image"]) == (IMAGES.head, IMAGES.worker)
    assert {"name": "LEEWARD_ENGINE", "value": engine} in worker["env"]


def test_ray_gets_the_address_of_redis_only_with_fault_tolerance() -> None:
    on = ray_service(rayservice.render(Service(), "cpu", IMAGES, REDIS))
    off = ray_service(rayservice.render(Service(gcs_fault_tolerance=False), "cpu", IMAGES, REDIS))
    assert on["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"] == "rediss://10.213.0.20:6379"
    assert "gcsFaultToleranceOptions" not in off["spec"]["rayClusterConfig"]


def test_the_password_is_in_the_secret_and_nowhere_else() -> None:
    things = rayservice.render(Service(), "cpu", IMAGES, REDIS)
    assert [t["kind"] for t in things if "very-secret-token" in yaml.safe_dump(t)] == ["Secret"]


def test_fault_tolerance_without_a_redis_is_refused() -> None:
    assert not rayservice.fault_tolerant(Service(), None)
    with pytest.raises(rayservice.NoRedis):
        rayservice.fault_tolerant(Service(gcs_fault_tolerance=True), None)


def test_kuberay_gets_the_serve_configuration_as_text() -> None:
    config = ray_service(rayservice.render(Service(workers=3), "cpu", IMAGES, None))["spec"]["serveConfigV2"]
    assert isinstance(config, str)
    assert yaml.safe_load(config)["applications"]


def test_the_size_of_the_service_reaches_workers_and_budget() -> None:
    things = rayservice.render(Service(workers=3), "cpu", IMAGES, None)
    (group,) = ray_service(things)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert group["replicas"] == 3
    (budget,) = [t for t in things if t["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["minAvailable"] == 2
