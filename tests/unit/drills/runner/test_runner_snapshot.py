"""The answers of Kubernetes and Ray become a snapshot; what cannot be asked is None and not empty."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_server import Server, serving
from pydantic import SecretStr

from blocks.parameters import Service
from drills.kubernetes import pod_problems
from drills.kubernetes.api import Api, Object, Unavailable
from drills.observed import ActorSeen, Answer, Event, Snapshot, Versions
from drills.runner import api_key, load_job, ray_objects
from drills.runner.observer import Observer
from drills.runner.raw_evidence import RawEvidence
from drills.runner.waiting import Pending
from drills.stages import judging
from drills.subject import Probe
from tasks.service import rayservice

PODS = "/api/v1/namespaces/mistral/pods"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/mistral/endpointslices"
SERVE = "/api/v1/namespaces/mistral/services/mistral-head-svc:8265/proxy/api/serve/applications/"
INFER = "/api/v1/namespaces/mistral/services/mistral-serve-svc:8000/proxy/infer"
RAY_SERVICE = "/apis/ray.io/v1/namespaces/mistral/rayservices/mistral"


def pod(name: str, node_type: str, ip: str, *, ready: bool = True, env: tuple[str, ...] = (), **metadata: Any) -> Object:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": metadata.pop("made", "2026-11-23T12:00:00Z"),
            "labels": {"ray.io/cluster": "mistral-1", "ray.io/node-type": node_type},
            **metadata,
        },
        "spec": {"nodeName": f"node-of-{name}", "containers": [{"name": "ray", "image": "i", "env": [{"name": e} for e in env]}]},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "ray", "restartCount": 0, "ready": ready, "state": {"running": {}}}],
        },
    }


def replica(actor: str, ip: str) -> Object:
    return {"actor_id": actor, "node_ip": ip, "state": "RUNNING"}


APPLICATIONS = {
    "applications": {
        "mistral": {
            "status": "RUNNING",
            "deployments": {
                "api": {"status": "HEALTHY", "replicas": [replica("a1", "10.0.0.1"), replica("a2", "10.0.0.2")]},
                "engine": {"status": "HEALTHY", "replicas": [replica("e1", "10.0.0.1"), replica("e2", "10.0.0.2")]},
            },
        }
    }
}


@pytest.fixture
def pair() -> Iterator[tuple[Server, Api]]:
    with serving() as (server, api):
        server.objects[RAY_SERVICE] = {
            "metadata": {"name": "mistral", "generation": 2},
            "status": {
                "observedGeneration": 2,
                "conditions": [{"type": "Ready", "status": "True"}],
                "activeServiceStatus": {"rayClusterName": "mistral-1"},
            },
        }
        for one in (
            pod("head", "head", "10.0.0.9", env=("RAY_REDIS_ADDRESS",)),
            pod("w1", "worker", "10.0.0.1"),
            pod("w2", "worker", "10.0.0.2"),
        ):
            server.objects[f"{PODS}/{one['metadata']['name']}"] = one
        endpoints = [{"conditions": {"ready": True}, "addresses": ["x"], "targetRef": {"name": name}} for name in ("w1", "w2")]
        server.objects[f"{SLICES}/s"] = {"metadata": {"name": "s"}, "endpoints": endpoints}
        server.answers["GET", SERVE] = (200, json.dumps(APPLICATIONS).encode())
        server.answers["GET", INFER] = (200, b'["a text"]')
        yield server, api


def look(api: Api) -> Snapshot:
    with Observer(api, Service().subject) as observer:
        return observer.take_snapshot()


def test_the_snapshot_of_a_healthy_service_is_complete(pair: tuple[Server, Api]) -> None:
    found = look(pair[1])
    assert found.ready
    assert found.app_status == "RUNNING"
    assert found.head is not None
    assert (found.head.pod, found.head.running, found.head.ready) == ("head", True, True)
    assert [w.pod for w in found.workers] == ["w1", "w2"]
    assert found.endpoints == ("w1", "w2")
    assert found.gcs_storage is True
    assert found.answer is not None
    assert found.answer.ok
    assert {(r.actor_id, r.deployment, r.pod, r.node) for r in found.replicas or ()} == {
        ("a1", "api", "w1", "node-of-w1"),
        ("a2", "api", "w2", "node-of-w2"),
        ("e1", "engine", "w1", "node-of-w1"),
        ("e2", "engine", "w2", "node-of-w2"),
    }
    assert found.replicas_on("w1") == {"api": ("a1",), "engine": ("e1",)}


def test_waiting_for_the_service_ends_when_its_snapshot_is_steady(pair: tuple[Server, Api]) -> None:
    with Observer(pair[1], Service().subject) as observer:
        assert isinstance(rayservice.check_steady(observer, Service()), Snapshot)
    with Observer(pair[1], Service().subject) as observer:
        assert isinstance(rayservice.check_steady(observer, Service(workers=3)), Pending)


def test_waiting_for_the_service_goes_on_until_the_operator_has_observed_the_newest_specification(pair: tuple[Server, Api]) -> None:
    pair[0].objects[RAY_SERVICE]["metadata"]["generation"] = 3
    with Observer(pair[1], Service().subject) as observer:
        found = rayservice.check_steady(observer, Service())
    assert isinstance(found, Pending)
    assert "newest" in found.seen


def test_waiting_for_a_second_cluster_without_nodes_names_the_number_of_nodes_needed(pair: tuple[Server, Api]) -> None:
    pair[0].objects[RAY_SERVICE]["status"]["conditions"].append({"type": "UpgradeInProgress", "status": "True"})
    with Observer(pair[1], Service().subject) as observer:
        found = rayservice.check_steady(observer, Service())
        assert isinstance(found, Pending)
        assert "inf2_nodes.count" not in found.seen, "its pods may only be starting"
        new = pod("new", "worker", "", ready=False)
        new["status"] = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}
        pair[0].objects[f"{PODS}/new"] = new
        found = rayservice.check_steady(observer, Service())
    assert isinstance(found, Pending)
    assert "a managed group must have 4 (inf2_nodes.count)" in found.seen


def test_when_ray_does_not_answer_its_replicas_are_unknown_and_not_none_at_all(pair: tuple[Server, Api]) -> None:
    pair[0].answers["GET", SERVE] = (503, b"no endpoints")
    found = look(pair[1])
    assert found.blind
    assert found.replicas is None
    assert found.workers, "Kubernetes still answers"


def test_a_snapshot_has_the_reason_of_an_unanswered_request(pair: tuple[Server, Api]) -> None:
    pair[0].answers["GET", INFER] = (500, b"boom")
    answer = look(pair[1]).answer
    assert answer is not None
    assert not answer.ok
    assert "500" in answer.detail


@pytest.mark.parametrize("body", [b"{}", b"[]", b'["a", "b"]', b"[1]", b"<html>"])
def test_an_answer_that_is_not_one_text_does_not_count(pair: tuple[Server, Api], body: bytes) -> None:
    pair[0].answers["GET", INFER] = (200, body)
    answer = look(pair[1]).answer
    assert answer is not None
    assert not answer.ok
    assert body.decode() in answer.detail


def asked_with(server: Server) -> dict[str, str]:
    """Return the headers of the request to the service."""
    (found,) = [headers for (_, path, _), headers in zip(server.requests, server.headers, strict=True) if path == INFER]
    return found


def test_the_request_carries_the_key_that_the_workers_ask_for(pair: tuple[Server, Api]) -> None:
    server, api = pair
    api_key.put(api, "mistral", SecretStr("sesame"))
    stored = server.objects["/api/v1/namespaces/mistral/secrets/api-key"]
    assert stored["stringData"] == {"key": "sesame"}
    stored["data"] = {"key": base64.b64encode(b"sesame").decode()}  # as the API server keeps it
    assert (look(api).answer or Answer(ok=False)).ok
    assert asked_with(server)["x-api-key"] == "sesame"
    assert "sesame" not in json.dumps([path for _, path, _ in server.requests])


def test_without_a_key_the_request_has_none_and_an_earlier_secret_is_removed(pair: tuple[Server, Api]) -> None:
    server, api = pair
    api_key.put(api, "mistral", SecretStr("sesame"))
    api_key.put(api, "mistral", None)
    assert "/api/v1/namespaces/mistral/secrets/api-key" not in server.objects
    assert (look(api).answer or Answer(ok=False)).ok
    assert "x-api-key" not in asked_with(server)


def test_a_probe_of_another_service_reads_no_secret(pair: tuple[Server, Api]) -> None:
    server, api = pair
    foreign = Service().subject.model_copy(update={"probe": Probe(path="/infer")})
    with Observer(api, foreign) as observer:
        assert observer.answer().ok
    assert not [path for _, path, _ in server.requests if "/secrets/" in path]


def test_the_load_runs_in_the_image_of_the_services_own_head(pair: tuple[Server, Api]) -> None:
    server, api = pair
    server.objects[f"{PODS}/head"]["spec"]["containers"][0]["image"] = "slim"
    stranger = pod("x", "head", "10.0.0.8", made="2026-11-24T12:00:00Z")
    stranger["metadata"]["labels"]["ray.io/cluster"] = "training"
    server.objects[f"{PODS}/x"] = stranger
    with Observer(api, Service().subject) as observer:
        assert load_job.head_image(observer) == "slim", "another Ray cluster of the namespace is not ours"
        del server.objects[f"{PODS}/head"]
        with pytest.raises(load_job.LoadFailed, match="no head pod"):
            load_job.head_image(observer)


def test_the_head_is_the_pod_that_is_not_being_deleted() -> None:
    pods = [
        pod("head-b", "head", "1", deletionTimestamp="2026-11-23T12:01:00Z"),
        pod("head-a", "head", "2", made="2026-11-23T12:02:00Z"),
    ]
    found = ray_objects.head(pods, "mistral-1")
    assert found is not None
    assert found.pod == "head-a"
    alone = ray_objects.head(pods[:1], "mistral-1")
    assert alone is not None
    assert (alone.running, alone.ready) == (False, False)


def test_another_clusters_pods_and_the_redis_cleanup_are_not_ours() -> None:
    cleanup = {**pod("cleanup", "redis-cleanup", "1")}
    other = pod("other", "head", "1")
    other["metadata"]["labels"]["ray.io/cluster"] = "mistral-2"
    assert ray_objects.head([cleanup, other], "mistral-1") is None
    assert ray_objects.gcs_storage([other], "mistral-1") is None


def test_the_serve_controller_and_the_proxies_have_their_pods_and_are_unknown_where_ray_does_not_list_them() -> None:
    pods = [pod("head", "head", "10.0.0.9"), pod("w1", "worker", "10.0.0.1")]
    told = {
        "controller_info": {"actor_id": "c", "worker_id": "w", "node_ip": "10.0.0.9"},
        "proxies": {"n": {"actor_id": "p", "worker_id": "v", "node_ip": "10.0.0.1", "status": "HEALTHY"}, "starting": {"actor_id": None}},
    }
    assert ray_objects.controller(told, pods) == ActorSeen(actor_id="c", worker_id="w", pod="head")
    assert ray_objects.proxies(told, pods) == (ActorSeen(actor_id="p", worker_id="v", status="HEALTHY", pod="w1"),)
    assert (ray_objects.controller({}, pods), ray_objects.proxies({}, pods)) == (None, None)


def test_the_status_of_several_applications_is_that_of_one_that_is_not_running() -> None:
    assert ray_objects.app_status({"applications": {"a": {"status": "RUNNING"}, "b": {"status": "DEPLOY_FAILED"}}}) == "DEPLOY_FAILED"
    assert ray_objects.app_status({"applications": {}}) == "NOT_STARTED"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes: 2 Insufficient neuron"}
                ]
            },
            "Unschedulable: 0/4 nodes: 2 Insufficient neuron",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]},
            "ImagePullBackOff not found",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                    }
                ]
            },
            "OOMKilled 137",
        ),
    ],
)
def test_the_trouble_of_a_pod_is_described_so_that_a_person_can_act_on_it(change: Object, said: str) -> None:
    broken = pod("w1", "worker", "1", ready=False)
    broken["status"] = {**broken["status"], "phase": "Pending", "conditions": [], **change}
    assert said in pod_problems.trouble(broken)


def test_a_pod_that_is_ready_or_has_succeeded_has_no_trouble() -> None:
    assert pod_problems.trouble(pod("w1", "worker", "1")) == ""
    assert pod_problems.trouble({"metadata": {"name": "job"}, "status": {"phase": "Succeeded"}}) == ""


def test_raw_evidence_returns_what_was_written_and_continues_after_an_incomplete_line(tmp_path: Path) -> None:
    raw = RawEvidence(tmp_path / "raw")
    assert (raw.snapshots(), raw.last("load"), raw.last("clock_offset", 0.0)) == ([], None, 0.0)
    raw.snapshot(Snapshot(t=1.0))
    raw.add("clock_offset", 0.25)
    raw.add("event", Event(t=1.5, what="x").model_dump())
    with (tmp_path / "raw" / "seen-000.jsonl").open("a") as file:
        file.write('{"snapshot": {"t"')
    raw.records.write_bytes(b"{}\n{")
    raw = RawEvidence(tmp_path / "raw")
    assert raw.records.read_bytes() == b"{}\n", "the load gives whole lines only from where one begins"
    assert [s.t for s in raw.snapshots()] == [1.0]
    raw.snapshot(Snapshot(t=2.0))
    assert [s.t for s in raw.snapshots()] == [1.0, 2.0]
    assert raw.last("clock_offset") == 0.25
    assert [e.what for e in raw.events()] == ["x"]


class Away(Server):
    """An API server behind which nothing answers."""

    def handle(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        return 503, {"message": "away"}


def test_versions_that_cannot_be_read_are_empty() -> None:
    with serving(Away()) as (_, api):
        found = judging.versions(api, Service().subject)
    assert found.leeward
    assert found == Versions(leeward=found.leeward)


def test_the_image_in_the_evidence_is_that_of_the_workers(pair: tuple[Server, Api]) -> None:
    assert judging.versions(pair[1], Service().subject).image == "i"


def test_restarts_are_those_of_the_ray_container_whatever_the_order_of_the_statuses() -> None:
    statuses = [{"name": "autoscaler", "restartCount": 3}, {"name": "ray-head", "restartCount": 1}]
    pod = {"spec": {"containers": [{"name": "ray-head"}, {"name": "autoscaler"}]}, "status": {"containerStatuses": statuses}}
    assert pod_problems.restarts(pod) == 1
    assert pod_problems.restarts({"spec": pod["spec"], "status": {}}) == 0


@pytest.mark.parametrize("may_read", [True, False])
def test_rays_own_token_is_read_from_the_secret_that_the_head_has_it_from(pair: tuple[Server, Api], may_read: bool) -> None:
    server, api = pair
    head = server.objects[f"{PODS}/head"]
    reference = {"name": "ray-token", "key": "auth_token"}
    head["spec"]["containers"][0]["env"].append({"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    secret = "/api/v1/namespaces/mistral/secrets/ray-token"
    server.objects[secret] = {"metadata": {"name": "ray-token"}, "data": {"auth_token": base64.b64encode(b"tok").decode()}}
    if not may_read:
        server.answers["GET", secret] = (403, b'{"message": "forbidden"}')
    with Observer(api, Service().subject) as observer:
        observer.serve()
        assert server.headers[-1].get("x-ray-authorization") == ("Bearer tok" if may_read else None)
        server.requests.clear()
        observer.serve()
        assert len(server.requests) == 1, "it is read once"


def test_a_ray_cluster_that_takes_over_is_asked_with_its_own_token(pair: tuple[Server, Api]) -> None:
    server, api = pair
    with Observer(api, Service().subject) as observer:
        observer.serve()
        server.answers["GET", SERVE] = (401, b"Unauthorized: Missing authentication token")
        head = server.objects[f"{PODS}/head"]
        reference = {"name": "ray-token", "key": "auth_token"}
        head["spec"]["containers"][0]["env"].append({"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": reference}})
        secret = {"metadata": {"name": "ray-token"}, "data": {"auth_token": base64.b64encode(b"tok").decode()}}
        server.objects["/api/v1/namespaces/mistral/secrets/ray-token"] = secret
        with pytest.raises(Unavailable):
            observer.serve()
        server.answers["GET", SERVE] = (200, b"{}")
        observer.serve()
    assert server.headers[-1].get("x-ray-authorization") == "Bearer tok"


def test_without_rays_own_token_no_secret_is_read(pair: tuple[Server, Api]) -> None:
    server, api = pair
    with Observer(api, Service().subject) as observer:
        assert observer.token_secret() is None
        observer.serve()
    assert not any("secrets" in path for _, path, _ in server.requests)
    assert "x-ray-authorization" not in server.headers[-1]
