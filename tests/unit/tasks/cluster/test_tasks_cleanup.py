"""In a shared cluster, cleanup removes what belongs to the service, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes_server import Server, serving

from blocks.parameters import OWN_NAMESPACES, Service
from drills.kubernetes import manifests, ownership
from drills.kubernetes.api import Api
from drills.runner import api_key, journal
from drills.runner.journal import Journal, Lock
from drills.subject import HOME
from tasks import cleanup
from tasks.cluster import kuberay
from tasks.service import chat, rayservice
from tasks.support.progress import Progress

MINE, OTHER = Service(namespace="ml", name="mistral"), Service(namespace="ml", name="other")
ELSEWHERE = Service(namespace="lab", name="other")
JOBS = f"/apis/batch/v1/namespaces/{HOME}/jobs"
RAY = "/apis/ray.io/v1/namespaces/ml"
INSIDE = "/api/v1/namespaces/ml"
PDB = "/apis/policy/v1/namespaces/ml/poddisruptionbudgets/workers"
OURS = {ownership.PART_OF: "leeward"}


class Cluster(Server):
    """A server that filters collections by labels, and deletes what KubeRay created together with its RayService."""

    def _get(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        status, answer = super()._get(path, query, body)
        wanted = [part.partition("=") for part in query.get("labelSelector", [""])[0].split(",") if part]
        if "items" in answer:
            return status, {"items": [t for t in answer["items"] if all(_holds(t, key, value) for key, _, value in wanted)]}
        return status, answer

    def _delete(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        collection, _, name = path.rpartition("/")
        if collection == f"{RAY}/rayservices":
            self.objects.pop(f"{RAY}/rayclusters/{name}-1", None)
        return super()._delete(path, query, body)


def _holds(thing: Any, key: str, value: str) -> bool:
    labels = thing["metadata"].get("labels") or {}
    return key in labels and value in ("", labels[key])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Api]]:
    monkeypatch.setattr(rayservice, "LOOK_EVERY_S", 0.01)
    with serving(Cluster()) as (server, api):
        assert isinstance(server, Cluster)
        yield server, api


def put(server: Server, path: str, labels: dict[str, str] | None = None, **annotations: str) -> None:
    metadata = {"name": path.rpartition("/")[2], "labels": labels or {}, "annotations": annotations}
    server.objects[path] = {"metadata": metadata}


def run_service(server: Server, name: str, *pods: str) -> None:
    put(server, f"{RAY}/rayservices/{name}", OURS)
    made_for = {"ray.io/originated-from-cr-name": name, "ray.io/originated-from-crd": "RayService"}
    put(server, f"{RAY}/rayclusters/{name}-1", made_for)
    for pod in pods:
        put(server, f"{INSIDE}/pods/{pod}", {"ray.io/cluster": f"{name}-1", "ray.io/node-type": "worker"})


def beside(server: Server) -> list[str]:
    """Create the objects that are applied together with a RayService; returns their paths."""
    paths = [f"{INSIDE}/secrets/{name}" for name in ("redis-auth", "hf-token", "api-key", "ray-token")]
    paths += [f"{INSIDE}/configmaps/redis-ca", PDB]
    for path in paths:
        put(server, path, OURS)
    return paths


def run_chat(api: Api, service: Service) -> None:
    ownership.ensure_namespace(api, chat.NAMESPACE)
    values = {"namespace": chat.NAMESPACE, "service": service.subject.key, "chat_image": "i", "service_url": service.subject.url}
    api.apply_all(manifests.load("chat", values))


def clean(api: Api, service: Service = MINE) -> list[str]:
    """Do what the step does in a cluster that Terraform did not create; returns the namespaces that it kept."""
    cleanup.remove_workloads(api, service, Progress("p"))
    return cleanup.remove_namespaces(api, service, Progress("p"))


def namespaces(server: Server) -> set[str]:
    return {path.rpartition("/")[2] for path in server.objects if path.rpartition("/")[0] == ownership.NAMESPACES}


def test_everything_that_the_pipeline_created_is_removed(cluster: tuple[Cluster, Api]) -> None:
    server, api = cluster
    for name in ("ml", HOME):
        ownership.ensure_namespace(api, name)
    run_chat(api, MINE)
    run_service(server, "mistral", "w1")
    journal.write(api, MINE.subject, Journal(owner="a", drill="head-pod", started=1.0))
    assert clean(api) == []
    assert namespaces(server) == set()
    assert clean(api) == [], "again, there is nothing to do"


def test_a_namespace_that_existed_before_keeps_everything_that_is_not_the_services(cluster: tuple[Cluster, Api]) -> None:
    server, api = cluster
    for name in ("ml", chat.NAMESPACE, HOME):
        put(server, f"{ownership.NAMESPACES}/{name}")
        ownership.ensure_namespace(api, name)
    theirs = [f"{INSIDE}/secrets/password", chat.DEPLOYMENT, f"/api/v1/namespaces/{chat.NAMESPACE}/secrets/api-key"]
    for path in theirs:
        put(server, path)
    run_service(server, "mistral", "w1")
    mine = beside(server)
    clean(api)
    assert namespaces(server) == {"ml", chat.NAMESPACE, HOME}
    assert {path for path in server.objects if path in (*theirs, *mine)} == set(theirs)
    assert not [path for path in server.objects if path.startswith(RAY)]


def test_a_namespace_that_existed_before_gets_no_pod_security_labels(cluster: tuple[Cluster, Api]) -> None:
    server, api = cluster
    put(server, f"{ownership.NAMESPACES}/ml", {"theirs": "1"})
    ownership.ensure_namespace(api, "ml")
    assert server.objects[f"{ownership.NAMESPACES}/ml"]["metadata"]["labels"] == {"theirs": "1"}


def test_pods_of_other_ray_clusters_are_neither_deleted_nor_waited_for(cluster: tuple[Cluster, Api]) -> None:
    server, api = cluster
    run_service(server, "mistral", "w1", "w2")
    put(server, f"{INSIDE}/pods/stranger", {"ray.io/cluster": "training", "ray.io/node-type": "worker"})
    put(server, f"{RAY}/rayclusters/training")
    rayservice.remove(api, MINE, 0.0, lambda seen: None)
    assert [path for path in server.objects if "/pods/" in path] == [f"{INSIDE}/pods/stranger"]


def test_another_service_keeps_its_drill_its_chat_and_the_namespace_they_share(cluster: tuple[Cluster, Api]) -> None:
    server, api = cluster
    for name in ("ml", HOME):
        ownership.ensure_namespace(api, name)
    run_chat(api, ELSEWHERE)
    run_service(server, "mistral", "w1")
    run_service(server, "other", "w2")
    shared = beside(server)
    for service, name in ((MINE, "load-1-1"), (ELSEWHERE, "load-2-1")):
        put(server, f"{JOBS}/{name}", OURS, **{ownership.SERVICE: service.subject.key})
        journal.write(api, service.subject, Journal(owner="a", drill="head-pod", started=1.0))
    Lock(api, ELSEWHERE.subject, "b").take()
    assert clean(api) == ["ml, with other in it", "chat, with chat in it", "leeward-load, with lab.other in it"]
    assert namespaces(server) == {"ml", chat.NAMESPACE, HOME}
    assert [path for path in server.objects if path.startswith(JOBS)] == [f"{JOBS}/load-2-1"]
    assert Lock(api, ELSEWHERE.subject, "").holder() == "b"
    assert [path for path in server.objects if path.startswith(f"{RAY}/rayservices")] == [f"{RAY}/rayservices/other"]
    assert all(path in server.objects for path in (*shared, chat.DEPLOYMENT, f"{INSIDE}/pods/w2"))
    clean(api, OTHER)
    assert "ml" not in namespaces(server), "who goes last takes it away"


def test_a_chat_that_is_switched_off_is_removed_with_its_key(cluster: tuple[Cluster, Api]) -> None:
    server, api = cluster
    run_chat(api, MINE)
    put(server, api_key._path(chat.NAMESPACE), OURS)
    assert chat.remove(api, MINE)
    assert namespaces(server) == {chat.NAMESPACE}
    assert len(server.objects) == 1
    assert not chat.remove(api, MINE)


def test_an_api_key_secret_that_the_pipeline_did_not_create_is_not_deleted(cluster: tuple[Cluster, Api]) -> None:
    server, api = cluster
    put(server, f"{INSIDE}/secrets/api-key")
    api_key.put(api, "ml", None)
    assert f"{INSIDE}/secrets/api-key" in server.objects
    put(server, f"{INSIDE}/secrets/api-key", OURS)
    api_key.put(api, "ml", None)
    assert server.objects == {}


def test_a_service_is_refused_in_a_namespace_that_all_services_share() -> None:
    assert {chat.NAMESPACE, HOME, kuberay.NAMESPACE} == OWN_NAMESPACES
    for name in OWN_NAMESPACES:
        with pytest.raises(ValueError, match="another namespace than"):
            Service(namespace=name)
