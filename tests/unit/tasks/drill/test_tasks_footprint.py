"""The footprint is read from the kubelet, the head and Ray; a figure that cannot be read is None, and no error."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from kubernetes_server import Server, serving

from blocks.parameters import Service
from drills.kubernetes.api import Api
from drills.observed import Footprint
from drills.runner import footprint
from drills.runner.observer import Observer

PODS = "/api/v1/namespaces/mistral/pods"
SUMMARY = "/api/v1/nodes/core-1/proxy/stats/summary"
ACTORS = "/api/v1/namespaces/mistral/services/mistral-head-svc:8265/proxy/api/v0/actors"
EXEC = f"{PODS}/head-new/exec"


def head(name: str, **metadata: str) -> dict[str, object]:
    labels = {"ray.io/cluster": "mistral-1", "ray.io/node-type": "head"}
    container = {"name": "ray-head", "env": [{"name": "RAY_REDIS_ADDRESS"}]}
    return {
        "metadata": {"name": name, "namespace": "mistral", "uid": f"uid-{name}", "labels": labels, "creationTimestamp": "x", **metadata},
        "spec": {"nodeName": "core-1", "containers": [container, {"name": "autoscaler"}]},
    }


@pytest.fixture
def pair() -> Iterator[tuple[Server, Api]]:
    with serving() as (server, api):
        ray_service = {"metadata": {"name": "mistral"}, "status": {"activeServiceStatus": {"rayClusterName": "mistral-1"}}}
        server.objects["/apis/ray.io/v1/namespaces/mistral/rayservices/mistral"] = ray_service
        server.objects[f"{PODS}/head-old"] = head("head-old", deletionTimestamp="now")
        server.objects[f"{PODS}/head-new"] = head("head-new")
        pods = [{"podRef": {"uid": f"uid-{name}"}, "memory": {"workingSetBytes": n}} for n, name in ((1, "other"), (42, "head-new"))]
        server.answers["GET", SUMMARY] = (200, json.dumps({"pods": pods}).encode())
        told = {"result": True, "data": {"result": {"total": 9, "num_filtered": 7, "result": [{"state": "DEAD"}]}}}
        server.answers["GET", ACTORS] = (200, json.dumps(told).encode())
        server.run = lambda pod, container, command: [(1, b"123\n"), (3, b'{"status": "Success"}')]  # type: ignore[method-assign]
        yield server, api


def seen(api: Api) -> Footprint:
    with Observer(api, Service().subject) as observer:
        return footprint.read_footprint(observer)


def test_the_footprint_has_the_heads_memory_the_entries_in_redis_and_the_dead_actors(pair: tuple[Server, Api]) -> None:
    server, api = pair
    assert seen(api) == Footprint(head_memory_bytes=42, redis_entries=123, dead_actors=7)
    (asked,) = [query for method, path, query in server.requests if (method, path) == ("EXEC", EXEC)]
    assert (asked["container"], asked["command"]) == (["ray-head"], ["python3", "-m", "serving.gcs_size"])
    (actors,) = [query for _, path, query in server.requests if path == ACTORS]
    assert (actors["filter_keys"], actors["filter_predicates"], actors["filter_values"]) == (["state"], ["="], ["DEAD"])


def test_a_figure_that_cannot_be_read_is_none_and_the_others_are_read(pair: tuple[Server, Api]) -> None:
    server, api = pair
    server.answers["GET", SUMMARY] = (403, b"{}")
    assert seen(api) == Footprint(redis_entries=123, dead_actors=7)
    server.answers["GET", ACTORS] = (200, b'{"data": null}')
    assert seen(api) == Footprint(redis_entries=123)
    server.run = lambda pod, container, command: [
        (2, b"no module"),
        (3, b'{"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "1"}]}}'),
    ]  # type: ignore[method-assign]
    assert seen(api) == Footprint()


def test_entries_in_redis_are_not_counted_for_a_head_without_gcs_storage(pair: tuple[Server, Api]) -> None:
    server, api = pair
    server.objects[f"{PODS}/head-new"]["spec"]["containers"][0]["env"] = []
    assert seen(api) == Footprint(head_memory_bytes=42, dead_actors=7)
    assert not [path for method, path, _ in server.requests if method == "EXEC"]


def test_without_a_head_the_footprint_is_empty(pair: tuple[Server, Api]) -> None:
    server, api = pair
    del server.objects[f"{PODS}/head-new"]
    assert seen(api) == Footprint()
