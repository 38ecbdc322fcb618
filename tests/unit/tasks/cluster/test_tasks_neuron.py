"""The Neuron device plug-in: its installation, and the reasons when a node offers no chip."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_server import Server

from blocks.errors import TimedOut
from blocks.parameters import Service
from drills.kubernetes.api import Api
from drills.runner.waiting import Pending
from tasks.cluster import checks, karpenter, neuron
from tasks.service import rayservice

PODS = f"/api/v1/namespaces/{neuron.NAMESPACE}/pods"


def node(**allocatable: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "ip-1", "labels": {"leeward.dev/pool": "inf2"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": allocatable},
    }


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "neuron-device-plugin-x"}, "status": status}


def checked(api: Api) -> checks.Check:
    return checks.check_nodes(api, {"inf2": 1}, 0.0, lambda seen: None)


def test_the_device_plugin_is_installed_with_its_permissions_without_waiting(pair: tuple[Server, Api]) -> None:
    books, api = pair
    assert neuron.install_plugin(api) == neuron.install_plugin(api) == "public.ecr.aws/neuron/neuron-device-plugin:2.31.0.0"
    assert {path.rpartition("/")[0] for path in books.objects} == {
        "/api/v1/namespaces/kube-system/serviceaccounts",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "/apis/apps/v1/namespaces/kube-system/daemonsets",
    }


def test_the_device_plugins_pods_have_the_label_by_which_they_are_found(pair: tuple[Server, Api]) -> None:
    books, api = pair
    neuron.install_plugin(api)
    neuron.troubles(api)
    _, _, query = next(request for request in books.requests if request[1] == PODS)
    daemon_set = books.objects[f"/apis/apps/v1/namespaces/{neuron.NAMESPACE}/daemonsets/neuron-device-plugin"]
    key, _, value = query["labelSelector"][0].partition("=")
    assert daemon_set["spec"]["template"]["metadata"]["labels"][key] == value
    assert daemon_set["spec"]["selector"]["matchLabels"] == {key: value}


def test_a_node_without_chips_fails_the_check_with_the_problems_of_the_plugins_pods(pair: tuple[Server, Api]) -> None:
    books, api = pair
    books.objects["/api/v1/nodes/ip-1"] = node()
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    books.objects[f"{PODS}/x"] = pod(phase="Pending", containerStatuses=[{"state": {"waiting": waiting}}])
    found = checked(api)
    assert found.result == "bad"
    assert "ip-1 offers no aws.amazon.com/neuron; neuron-device-plugin-x: ImagePullBackOff no such image" in found.detail


@pytest.mark.parametrize(("seen", "told"), [("w1: Unschedulable: 0/3 nodes", True), ("w1: ImagePullBackOff", False)])
def test_the_timeout_of_an_unschedulable_worker_has_the_problems_of_the_nodes(
    pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch, seen: str, *, told: bool
) -> None:
    books, api = pair
    monkeypatch.setattr(rayservice, "check_steady", lambda observer, service: Pending(seen))
    books.objects["/api/v1/nodes/ip-1"] = node()
    books.objects[f"{PODS}/x"] = pod(phase="Pending", containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull"}}}])
    refused = {"type": "Launched", "status": "Unknown", "reason": "LaunchFailed", "message": "UnauthorizedOperation"}
    books.objects[f"{karpenter.CLAIMS}/inf2-b"] = {"metadata": {"name": "inf2-b"}, "status": {"conditions": [refused]}}
    with pytest.raises(TimedOut) as error:
        rayservice.wait_until_serving(api, Service(), 0.0, lambda seen: None)
    wrong = [
        "ip-1 offers no aws.amazon.com/neuron",
        "neuron-device-plugin-x: ErrImagePull",
        "NodeClaim inf2-b not Launched: LaunchFailed UnauthorizedOperation",
    ]
    assert str(error.value).splitlines()[1:] == ([f"  {line}" for line in wrong] if told else [])


def test_the_timeout_is_raised_also_when_its_reasons_cannot_be_read(pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    books, api = pair
    monkeypatch.setattr(rayservice, "check_steady", lambda observer, service: Pending("w1: Unschedulable: 0/3 nodes"))
    books.answers["GET", karpenter.CLAIMS] = (503, b"")
    with pytest.raises(TimedOut, match="Unschedulable"):
        rayservice.wait_until_serving(api, Service(), 0.0, lambda seen: None)


def test_the_device_plugins_pods_are_not_mentioned_when_all_chips_are_offered(pair: tuple[Server, Api]) -> None:
    books, api = pair
    books.objects["/api/v1/nodes/ip-1"] = node(**{neuron.CHIP: "1"})
    assert checked(api).result == "ok"
    assert not [path for _, path, _ in books.requests if path == PODS]
