"""A RayService is found by its name or alone, and its Services by KubeRay's labels, whatever they are called."""

from __future__ import annotations

import pytest
from kubernetes_server import Server

from drills.kubernetes.api import Api, Object, Refused
from drills.runner import ray_objects
from drills.runner.discovery import NoRayService, find_subject
from drills.subject import Probe, Subject

RAY, SERVICES = "/apis/ray.io/v1/namespaces/shop/rayservices", "/api/v1/namespaces/shop/services"
PROBE = Probe(path="/?text=hello")


def put_service(server: Server, name: str, labels: dict[str, str], ports: list[Object]) -> None:
    metadata = {"name": name, "namespace": "shop", "labels": {"ray.io/originated-from-cr-name": "models", **labels}}
    server.objects[f"{SERVICES}/{name}"] = {"metadata": metadata, "spec": {"ports": ports}}


def put_ray_service(server: Server, name: str) -> None:
    server.objects[f"{RAY}/{name}"] = {"metadata": {"name": name, "namespace": "shop"}, "spec": {}}


def test_services_with_other_names_and_ports_are_found_by_their_labels(pair: tuple[Server, Api]) -> None:
    server, api = pair
    put_ray_service(server, "models")
    put_service(server, "shop-api", {"ray.io/serve": "models-serve"}, [{"name": "serve", "port": 80}])
    put_service(server, "aaa-head-svc", {"ray.io/node-type": "head"}, [{"name": "dashboard", "port": 1}])
    put_service(
        server, "models-head-svc", {"ray.io/node-type": "head"}, [{"name": "gcs", "port": 6379}, {"name": "dashboard", "port": 8266}]
    )
    assert find_subject(api, "shop", None, PROBE) == Subject(
        namespace="shop",
        name="models",
        home="shop",
        serve_service="shop-api",
        serve_port=80,
        head_service="models-head-svc",
        dashboard_port=8266,
        probe=PROBE,
    )


@pytest.mark.parametrize(
    ("ports", "port"),
    [
        ({"serve-grpc": 9000, "serve": 8001}, 8001),
        ({"serve-grpc": 9000, "serve-http": 8002}, 8002),
        ({"web": 80}, 80),
        ({"web": 80, "metrics": 81}, 8000),
    ],
)
def test_of_several_ports_the_one_for_http_is_asked(pair: tuple[Server, Api], ports: dict[str, int], port: int) -> None:
    server, api = pair
    put_ray_service(server, "models")
    put_service(server, "front", {"ray.io/serve": "models-serve"}, [{"name": name, "port": n} for name, n in ports.items()])
    assert find_subject(api, "shop", "models", None).serve_port == port


def test_without_the_right_to_list_services_they_have_kuberays_names(pair: tuple[Server, Api]) -> None:
    server, api = pair
    put_ray_service(server, "models")
    server.answers["GET", SERVICES] = (403, b"no")
    found = find_subject(api, "shop", "models", None)
    assert (found.serve_service, found.head_service, found.serve_port) == ("models-serve-svc", "models-head-svc", 8000)
    server.answers["GET", SERVICES] = (409, b"no")
    with pytest.raises(Refused):
        find_subject(api, "shop", "models", None)


@pytest.mark.parametrize(
    ("there", "name", "told"),
    [
        ([], None, "'shop' has no RayService, or there is no such namespace"),
        (["a", "b"], None, "--service; there are: a, b"),
        (["a"], "c", "no RayService 'c'; there are: a"),
    ],
)
def test_a_missing_or_unclear_service_is_refused_with_those_that_are_there(
    pair: tuple[Server, Api], there: list[str], name: str | None, told: str
) -> None:
    for found in there:
        put_ray_service(pair[0], found)
    with pytest.raises(NoRayService, match=told):
        find_subject(pair[1], "shop", name, None)


def test_deployments_of_one_name_in_two_applications_are_told_apart() -> None:
    healthy = {"name": "Model", "status": "HEALTHY", "replicas": []}
    serve = {
        "applications": {"reviews": {"deployments": {"Model": healthy}}, "products": {"deployments": {"Model": healthy, "Web": healthy}}}
    }
    assert sorted(d.name for d in ray_objects.deployments(serve)) == ["Web", "products/Model", "reviews/Model"]
