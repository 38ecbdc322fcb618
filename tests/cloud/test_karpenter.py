"""The real Karpenter on a cluster without inf2 nodes, installed as by the pipeline: it launches nodes for pods and removes them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import bare_cluster
import pytest
from bare_cluster import Aws, kubectl
from system_under_test import System

from blocks.parameters import Inf2Nodes, Infrastructure, Karpenter
from drills.kubernetes import manifests
from drills.kubernetes.api import Api, Refused
from drills.runner.waiting import Pending, Until
from localcloud import settings
from tasks.cluster import karpenter, karpenter_orphans, neuron
from tasks.terraform.infrastructure import Provisioning

QUEUE = "bare-karpenter"
FIRST, SECOND = "inf2.8xlarge", "inf2.24xlarge"
INFRASTRUCTURE = Infrastructure(
    name=bare_cluster.NAME,
    inf2_nodes=Inf2Nodes(instance_type=FIRST, fallback_types=(SECOND,), count=3),
    karpenter=Karpenter(empty_for_s=10),
)
NODE_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def api(cloud: System, aws: Aws) -> Iterator[Api]:
    """The client of a cluster with core nodes and Karpenter; afterwards both are gone."""
    with (
        bare_cluster.running_cluster(aws, ("core",)) as name,
        bare_cluster.pod_role(aws, "karpenter", "kube-system", "karpenter"),
        bare_cluster.interruption_queue(aws, QUEUE),
        bare_cluster.instance_profile(aws) as profile,
    ):
        found = bare_cluster.api()
        cluster = aws("eks").describe_cluster(name=name)["cluster"]["resourcesVpcConfig"]
        subnets = dict.fromkeys(("core", "inf2"), tuple(cluster["subnetIds"]))
        made = Provisioning(QUEUE, profile, subnets, cluster["clusterSecurityGroupId"], {"leeward:name": name})
        try:
            neuron.install_plugin(found)
            karpenter.install_controller(found, name, QUEUE, lambda seen: None)
            karpenter.apply_node_pools(found, INFRASTRUCTURE, made, lambda seen: None)
            yield found
        finally:
            karpenter.remove_nodes(found, lambda seen: None)
            assert not karpenter_orphans.remove(SimpleNamespace(client=aws), name, lambda seen: None)


@pytest.fixture
def worker(api: Api) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A function that runs a pod which requests a chip, as a worker does, and returns its node. The pods are deleted afterwards."""
    names = []

    def run(name: str) -> dict[str, Any]:
        names.append(name)
        api.apply(_pod(name))
        return _node_of(api, name)

    yield run
    for name in names:
        api.delete(f"/api/v1/namespaces/default/pods/{name}", grace_s=0)


def _pod(name: str) -> dict[str, Any]:
    """Return a pod that requests a chip. It runs the pause image, which is on every node."""
    container = {"name": "main", "image": settings.PAUSE_IMAGE, "resources": {"limits": {"aws.amazon.com/neuron": 1}}}
    spread = [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "worker"}}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "worker"}},
        "spec": {
            "nodeSelector": {"leeward.dev/pool": "inf2"},
            "tolerations": [{"key": "aws.amazon.com/neuron", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": spread}},
            "containers": [container],
        },
    }


def _node_of(api: Api, name: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | Pending:
        pod = api.get(f"/api/v1/namespaces/default/pods/{name}")
        if pod["status"].get("phase") != "Running":
            return Pending(json.dumps(pod["status"].get("conditions")))
        node = api.get(f"/api/v1/nodes/{pod['spec']['nodeName']}")
        # The scheduler does not wait until Karpenter has found the node initialised.
        return node if "karpenter.sh/initialized" in node["metadata"]["labels"] else Pending("Karpenter has not initialised its node")

    return Until(f"pod {name} to run on an initialised node", probe, NODE_WITHIN_S).wait()


def _instance_type(node: dict[str, Any]) -> str:
    return str(node["metadata"]["labels"]["node.kubernetes.io/instance-type"])


def _claim_of(api: Api, node: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in api.items(karpenter.CLAIMS) if c["status"].get("nodeName") == node["metadata"]["name"])


def _conditions_once_ready(api: Api, node: dict[str, Any]) -> dict[str, str]:
    """Return the conditions of the node's claim once it is ready, which is a moment after Karpenter has labelled the node."""

    def probe() -> dict[str, str] | Pending:
        conditions = {c["type"]: c["status"] for c in _claim_of(api, node)["status"].get("conditions", ())}
        return conditions if conditions.get("Ready") == "True" else Pending(str(conditions))

    return Until(f"the claim of node {node['metadata']['name']} to be ready", probe, NODE_WITHIN_S).wait()


def _until_gone(api: Api, node: dict[str, Any]) -> None:
    def probe() -> bool | Pending:
        there = api.find(f"/api/v1/nodes/{node['metadata']['name']}")
        return Pending("it is still there") if there else True

    Until(f"node {node['metadata']['name']} to go", probe, NODE_WITHIN_S).wait()


def _remove_nodes(api: Api) -> None:
    """Delete all of Karpenter's nodes, also those that an earlier test left, and wait for their end."""

    def probe() -> bool | Pending:
        left = api.items(karpenter.CLAIMS)
        for claim in left:
            api.delete(f"{karpenter.CLAIMS}/{claim['metadata']['name']}")
        return Pending(", ".join(claim["metadata"]["name"] for claim in left)) if left else True

    Until("Karpenter's nodes to go", probe, NODE_WITHIN_S).wait()


@contextlib.contextmanager
def shortage(system: System, *types: str) -> Iterator[None]:
    """Declare these instance types out of capacity in every zone."""
    paths = [f"shortages/{kind}/{zone}" for kind in types for zone in settings.AVAILABILITY_ZONES]
    for path in paths:
        system.ask(path, "PUT")
    yield
    for path in paths:
        system.ask(path, "DELETE")


def test_a_pod_that_requests_a_chip_gets_a_node_with_the_type_labels_and_taints_of_its_pool(
    api: Api, worker: Callable[[str], dict[str, Any]]
) -> None:
    node = worker("first")
    labels = node["metadata"]["labels"]
    assert _instance_type(node) == FIRST
    assert labels["karpenter.sh/nodepool"] == "inf2"
    assert labels["karpenter.sh/registered"] == labels["karpenter.sh/initialized"] == "true"
    assert node["spec"]["taints"] == [{"key": "aws.amazon.com/neuron", "value": "true", "effect": "NoSchedule"}]
    # Karpenter compares instance and class about once a minute; a difference that exists from the start is found then.
    assert _conditions_once_ready(api, node).get("Drifted") != "True"


def test_the_karpenter_controller_has_no_access_key_but_its_pod_identity(api: Api) -> None:
    pods = api.items("/api/v1/namespaces/kube-system/pods", labelSelector="app.kubernetes.io/name=karpenter")
    environment = {e["name"] for e in pods[0]["spec"]["containers"][0]["env"]}
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in environment
    assert not environment & {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_the_node_of_an_interrupted_instance_is_drained_and_removed(
    api: Api, cloud: System, worker: Callable[[str], dict[str, Any]]
) -> None:
    node = worker("interrupted")
    instance = node["spec"]["providerID"].rpartition("/")[2]
    cloud.ask(f"interruptions/{instance}", "PUT")

    _until_gone(api, node)
    assert not api.find("/api/v1/namespaces/default/pods/interrupted"), "its pod was evicted"


@pytest.mark.long  # the test before removes a node, too; when an empty one goes is a field of its pool, as the manifests have it
def test_karpenter_removes_an_empty_node(api: Api, worker: Callable[[str], dict[str, Any]]) -> None:
    node = worker("short-lived")
    api.delete("/api/v1/namespaces/default/pods/short-lived", grace_s=0)
    _until_gone(api, node)


@pytest.mark.long  # tests/unit/tasks/cluster/test_tasks_karpenter.py does the same with instances of the embedded EC2
def test_nodes_and_launch_templates_of_a_karpenter_that_no_longer_runs_are_removed(
    api: Api, aws: Aws, worker: Callable[[str], dict[str, Any]]
) -> None:
    node = worker("orphan")
    kubectl("-n", "kube-system", "scale", "deployment/karpenter", "--replicas=0")
    kubectl("-n", "kube-system", "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=karpenter", "--timeout=90s")
    done = karpenter_orphans.remove(SimpleNamespace(client=aws), bare_cluster.NAME, lambda seen: None)
    instance = node["spec"]["providerID"].rpartition("/")[2]
    assert f"terminated {instance}" in done
    assert any(line.startswith("deleted lt-") for line in done)
    assert not karpenter_orphans.remove(SimpleNamespace(client=aws), bare_cluster.NAME, lambda seen: None)
    kubectl("-n", "kube-system", "scale", "deployment/karpenter", "--replicas=2")
    kubectl("-n", "kube-system", "rollout", "status", "deployment/karpenter", "--timeout=120s")
    _remove_nodes(api)


def test_without_capacity_for_the_first_type_the_next_one_is_taken(
    api: Api, cloud: System, worker: Callable[[str], dict[str, Any]]
) -> None:
    with shortage(cloud, FIRST):
        assert _instance_type(worker("second-choice")) == SECOND


def test_without_any_capacity_the_events_name_the_types_that_were_tried(api: Api, cloud: System) -> None:
    _remove_nodes(api)
    with shortage(cloud, FIRST, SECOND):
        api.apply(_pod("no-choice"))

        def reported() -> str | Pending:
            return "; ".join(karpenter.capacity_errors(api)) or Pending("no event")

        try:
            events = Until("Karpenter to report the shortage", reported, NODE_WITHIN_S).wait()
        finally:
            api.delete("/api/v1/namespaces/default/pods/no-choice", grace_s=0)
    assert "InsufficientInstanceCapacity" in events
    assert SECOND in events


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("NodePool", {"spec": {"template": {"spec": {"expireAfter": "soon"}}}}),
        ("NodePool", {"spec": {"disruption": {"budgets": [{"nodes": "many"}]}}}),
        ("EC2NodeClass", {"spec": {"amiSelectorTerms": [{"alias": "al2023@latest", "id": "ami-1"}]}}),
        ("EC2NodeClass", {"spec": {"role": "and-a-profile"}}),
    ],
)
def test_the_api_server_refuses_objects_that_karpenters_validation_rules_forbid(api: Api, kind: str, change: dict[str, Any]) -> None:
    made = Provisioning(QUEUE, "profile", {"core": ("subnet-1",), "inf2": ("subnet-1",)}, "sg-1", {})
    manifest = next(m for m in karpenter.node_pools(INFRASTRUCTURE, made) if m["kind"] == kind)
    with pytest.raises(Refused):
        api.apply(manifests.merge(manifest, {**change, "metadata": {"name": "wrong"}}))
