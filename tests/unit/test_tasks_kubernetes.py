"""What the API server answers becomes an error that says whether to try again; apply, delete and proxies do what they say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes import client
from kubernetes_server import Server, serving

from blocks.errors import Permanent, Transient
from tasks.kubernetes import Api, Conflict, NotFound, Refused, Unavailable

PAIR = tuple[Server, Api]


@pytest.fixture
def pair() -> Iterator[PAIR]:
    with serving() as both:
        yield both


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_an_api_server_in_trouble_is_worth_asking_again(pair: PAIR, status: int) -> None:
    pair[0].answers["GET", "/version"] = (status, b'{"message": "trouble"}')
    with pytest.raises(Unavailable, match="trouble") as error:
        pair[1].get("/version")
    assert isinstance(error.value, Transient)


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (403, Refused), (422, Refused)])
def test_a_refusal_is_not(pair: PAIR, status: int, kind: type[Refused]) -> None:
    pair[0].answers["GET", "/version"] = (status, b'{"message": "no"}')
    with pytest.raises(kind) as error:
        pair[1].get("/version")
    assert isinstance(error.value, Permanent)
    assert error.value.status == status


def test_a_namespace_that_is_going_is_worth_waiting_for(pair: PAIR) -> None:
    message = b'{"message": "unable to create new content in namespace x because it is being terminated"}'
    pair[0].answers["GET", "/version"] = (403, message)
    with pytest.raises(Unavailable):
        pair[1].get("/version")


def test_nobody_there_is_transient() -> None:
    with pytest.raises(Unavailable, match="no answer"):
        Api(client.ApiClient(client.Configuration(host="http://127.0.0.1:1"))).get("/version")


def test_apply_finds_the_path_of_a_kind_and_says_who_applies(pair: PAIR) -> None:
    server, api = pair
    api.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat", "namespace": "front"}})
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "front"}})
    assert set(server.objects) == {"/apis/apps/v1/namespaces/front/deployments/chat", "/api/v1/namespaces/front"}
    patches = [query for method, _, query in server.requests if method == "PATCH"]
    assert patches == [{"fieldManager": ["leeward"], "force": ["false"]}] * 2


def test_fields_that_somebody_else_changed_are_taken_back_and_it_is_said(pair: PAIR) -> None:
    server, api = pair
    server.objects["/api/v1/namespaces/x/configmaps/c"] = {"metadata": {"name": "c", "heldBy": "kubectl-edit"}}
    said = api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "x"}, "data": {"a": "1"}})
    assert "kubectl-edit" in said
    assert server.objects["/api/v1/namespaces/x/configmaps/c"]["data"] == {"a": "1"}


def test_a_kind_that_the_cluster_does_not_know_is_not_found(pair: PAIR) -> None:
    with pytest.raises(NotFound, match="Fleet"):
        pair[1].apply({"apiVersion": "v1", "kind": "Fleet", "metadata": {"name": "x"}})


def test_a_pod_of_another_uid_is_not_deleted(pair: PAIR) -> None:
    server, api = pair
    path = "/api/v1/namespaces/x/pods/head"
    server.objects[path] = {"metadata": {"name": "head", "uid": "new"}}
    with pytest.raises(Conflict):
        api.delete(path, uid="old", grace_s=0)
    assert path in server.objects
    assert api.delete(path, uid="new", grace_s=0)
    assert server.bodies[-1]["gracePeriodSeconds"] == 0
    assert not api.delete(path)


def test_a_proxied_answer_other_than_200_is_transient(pair: PAIR) -> None:
    server, api = pair
    where = "/api/v1/namespaces/x/services/s:8000/proxy/infer"
    server.answers["GET", where] = (200, b"fine")
    assert api.proxy("GET", "x", "services", "s", 8000, "/infer") == b"fine"
    server.answers["GET", where] = (404, b"no route")
    with pytest.raises(Unavailable, match="404 no route"):
        api.proxy("GET", "x", "services", "s", 8000, "/infer")


def test_a_collection_of_an_unknown_kind_is_empty(pair: PAIR) -> None:
    pair[0].answers["GET", "/apis/ray.io/v1/rayservices"] = (404, b"404 page not found")
    assert pair[1].items("/apis/ray.io/v1/rayservices") == []
