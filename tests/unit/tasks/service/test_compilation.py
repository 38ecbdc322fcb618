"""Before a service is applied: the Job that compiles ahead, its role, and what makes a way in from outside."""

from __future__ import annotations

from typing import Any

import pytest
from embedded_aws import EmbeddedAws
from kubernetes_server import Server

from blocks.parameters import Ingress, Service
from drills.kubernetes.api import Api
from drills.runner.waiting import Pending
from tasks.aws import pod_identity
from tasks.service import compilation, preflight, rayservice

JOBS = "/apis/batch/v1/namespaces/mistral/jobs"
PODS = "/api/v1/namespaces/mistral/pods"


def job(service: Service, name: str = "") -> dict[str, Any]:
    """Return the Job of the service."""
    objects = rayservice.render(service, "neuron", preflight.IMAGES, None, None, "s3://bucket/compiled")
    made = compilation.job(service, objects[-1], 60)
    return {**made, "metadata": {**made["metadata"], "name": name or made["metadata"]["name"]}}


def ended(kind: str, message: str = "") -> dict[str, Any]:
    """Return the status of a Job that has ended."""
    return {"conditions": [{"type": kind, "status": "True", "message": message}]}


def test_a_job_that_is_complete_is_not_run_again_and_takes_the_place_of_earlier_ones(pair: tuple[Server, Api]) -> None:
    server, api = pair
    wanted, old, foreign = job(Service()), job(Service(), "compile-old"), job(Service(name="other"), "compile-other")
    for each in (wanted, old, foreign):
        server.objects[f"{JOBS}/{each['metadata']['name']}"] = {**each, "status": ended("Complete")}
    compilation.run(api, Service(), wanted, 5, lambda pending: None)
    assert {path.rpartition("/")[2] for path in server.objects if path.startswith(JOBS)} == {wanted["metadata"]["name"], "compile-other"}
    compilation.remove(api, Service())
    assert [path.rpartition("/")[2] for path in server.objects if path.startswith(JOBS)] == ["compile-other"]


def test_a_job_that_failed_says_why_in_its_own_words(pair: tuple[Server, Api]) -> None:
    server, api = pair
    wanted = job(Service())
    name = wanted["metadata"]["name"]
    server.objects[f"{JOBS}/{name}"] = {**wanted, "status": ended("Failed", "BackoffLimitExceeded")}
    state = {"terminated": {"exitCode": 1, "reason": "Error", "message": "the model was made for 512 positions"}}
    server.objects[f"{PODS}/{name}-1"] = {
        "metadata": {"name": f"{name}-1", "labels": {"batch.kubernetes.io/job-name": name}},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "ray-worker", "state": state}]},
    }
    with pytest.raises(compilation.CompilationFailed, match=r"BackoffLimitExceeded.*made for 512 positions"):
        compilation.probe(api, "mistral", name)


def test_a_job_that_failed_in_an_earlier_run_is_run_again(pair: tuple[Server, Api]) -> None:
    server, api = pair
    wanted = job(Service())
    path = f"{JOBS}/{wanted['metadata']['name']}"
    server.objects[path] = {**wanted, "status": ended("Failed", "BackoffLimitExceeded")}
    seen = []

    def complete(pending: Pending) -> None:
        seen.append(pending.seen)
        server.objects[path]["status"] = ended("Complete")

    compilation.run(api, Service(), wanted, 5, complete)
    assert seen == ["compiles"]


def test_the_workers_get_their_role_once(aws: EmbeddedAws) -> None:
    aws.cluster("demo")
    assert pod_identity.associate(aws, "demo", "mistral")
    assert not pod_identity.associate(aws, "demo", "mistral")
    assert pod_identity.associate(aws, "demo", "other")
    eks = aws.client("eks")
    (listed,) = eks.list_pod_identity_associations(clusterName="demo", namespace="mistral")["associations"]
    made = eks.describe_pod_identity_association(clusterName="demo", associationId=listed["associationId"])["association"]
    assert made["roleArn"].rpartition("/")[2] == f"leeward-demo-{eks.meta.region_name}-models"
    assert made["serviceAccount"] == "workers"


def test_a_way_in_from_outside_needs_the_controller_that_makes_it(pair: tuple[Server, Api]) -> None:
    server, api = pair
    wanted = Service(ingress=Ingress(certificate_arn="arn:aws:acm:us-west-2:123456789012:certificate/0-1"))
    rayservice.require_controller(api, Service())
    with pytest.raises(rayservice.NoController, match="install it"):
        rayservice.require_controller(api, wanted)
    server.objects[f"{rayservice.INGRESS_CLASSES}/alb"] = {"metadata": {"name": "alb"}}
    rayservice.require_controller(api, wanted)
