"""The real Karpenter on a cluster without inf2 nodes, installed as the pipeline does: nodes come for pods, from what there is, and go."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import bare_cluster
import pytest
from bare_cluster import Aws, kubectl
from world import World

from blocks.parameters import Inf2Nodes, Infrastructure
from localcloud import settings
from tasks.cluster import karpenter, karpenter_orphans, neuron
from tasks.kubernetes import manifests
from tasks.kubernetes.api import Api, Refused
from tasks.support.waiting import Pending, Until
from tasks.terraform.infrastructure import Provisioning

QUEUE = "bare-karpenter"
FIRST, SECOND = "inf2.8xlarge", "inf2.24xlarge"
INFRASTRUCTURE = Infrastructure(name=bare_cluster.NAME, inf2_nodes=Inf2Nodes(instance_type=FIRST, fallback_types=(SECOND,), count=3))
NODE_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def api(cloud: World, aws: Aws) -> Iterator[Api]:
    """A cluster with core nodes and Karpenter, and nothing of either afterwards."""
    with (
        bare_cluster.running(aws, ("core",)) as name,
        bare_cluster.pod_role(aws, "karpenter", "kube-system", "karpenter"),
        bare_cluster.interruptions(aws, QUEUE),
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
            assert not karpenter_orphans.remove(_Session(aws), name, lambda seen: None)


class _Session:
    """What makes boto3 clients, as tasks want it."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def client(self, service: str) -> Any:
        return self._aws(service)


@pytest.fixture
def worker(api: Api) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Runs a pod that asks for a chip, as a worker does; returns the node that it runs on. All are gone afterwards."""
    names = []

    def run(name: str) -> dict[str, Any]:
        names.append(name)
        api.apply(_pod(name))
        return _node_of(api, name)

    yield run
    for name in names:
        api.delete(f"/api/v1/namespaces/default/pods/{name}", grace_s=0)


def _pod(name: str) -> dict[str, Any]:
    """The pause image is on every node."""
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
        # Karpenter may see last that the node has all it must have: the scheduler does not wait for it.
        return node if "karpenter.sh/initialized" in node["metadata"]["labels"] else Pending("Karpenter does not call its node initialised")

    return Until(f"pod {name} to run on a node that is complete", probe, NODE_WITHIN_S).wait()


def _type(node: dict[str, Any]) -> str:
    return str(node["metadata"]["labels"]["node.kubernetes.io/instance-type"])


def _claim(api: Api, node: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in api.items(karpenter.CLAIMS) if c["status"].get("nodeName") == node["metadata"]["name"])


def _conditions_once_ready(api: Api, node: dict[str, Any]) -> dict[str, str]:
    """Of its claim, which Karpenter calls ready a moment after it has labelled the node."""

    def probe() -> dict[str, str] | Pending:
        conditions = {c["type"]: c["status"] for c in _claim(api, node)["status"].get("conditions", ())}
        return conditions if conditions.get("Ready") == "True" else Pending(str(conditions))

    return Until(f"the claim of node {node['metadata']['name']} to be ready", probe, NODE_WITHIN_S).wait()


def _gone(api: Api, node: dict[str, Any]) -> None:
    def probe() -> bool | Pending:
        there = api.find(f"/api/v1/nodes/{node['metadata']['name']}")
        return Pending("it is still there") if there else True

    Until(f"node {node['metadata']['name']} to go", probe, NODE_WITHIN_S).wait()


def _no_nodes(api: Api) -> None:
    """None of Karpenter's is left, also none that an earlier test left."""

    def probe() -> bool | Pending:
        left = api.items(karpenter.CLAIMS)
        for claim in left:
            api.delete(f"{karpenter.CLAIMS}/{claim['metadata']['name']}")
        return Pending(", ".join(claim["metadata"]["name"] for claim in left)) if left else True

    Until("Karpenter's nodes to go", probe, NODE_WITHIN_S).wait()


@contextlib.contextmanager
def shortage(world: World, *types: str) -> Iterator[None]:
    """No zone has any of these types."""
    places = [f"shortages/{kind}/{zone}" for kind in types for zone in settings.AVAILABILITY_ZONES]
    for place in places:
        _tell(world, "PUT", place)
    yield
    for place in places:
        _tell(world, "DELETE", place)


def _tell(world: World, method: str, path: str) -> None:
    url = f"{world.endpoint['endpoint_url']}/localcloud/{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, method=method), timeout=30).close()


def test_a_pod_that_asks_for_a_chip_gets_a_node_with_all_that_its_pool_says(api: Api, worker: Callable[[str], dict[str, Any]]) -> None:
    node = worker("first")
    labels = node["metadata"]["labels"]
    assert _type(node) == FIRST
    assert labels["karpenter.sh/nodepool"] == "inf2"
    assert labels["karpenter.sh/registered"] == labels["karpenter.sh/initialized"] == "true"
    assert node["spec"]["taints"] == [{"key": "aws.amazon.com/neuron", "value": "true", "effect": "NoSchedule"}]
    # Karpenter compares instance and class once a minute or so; what differed at once would differ then.
    assert _conditions_once_ready(api, node).get("Drifted") != "True"


def test_the_controller_has_no_key_but_its_pod_identity(api: Api) -> None:
    pods = api.items("/api/v1/namespaces/kube-system/pods", labelSelector="app.kubernetes.io/name=karpenter")
    environment = {e["name"] for e in pods[0]["spec"]["containers"][0]["env"]}
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in environment
    assert not environment & {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_an_interrupted_instance_is_replaced(api: Api, cloud: World, worker: Callable[[str], dict[str, Any]]) -> None:
    node = worker("interrupted")
    instance = node["spec"]["providerID"].rpartition("/")[2]
    _tell(cloud, "PUT", f"interruptions/{instance}")

    _gone(api, node)
    assert not api.find("/api/v1/namespaces/default/pods/interrupted"), "its pod was evicted"


def test_an_empty_node_goes_by_itself(api: Api, worker: Callable[[str], dict[str, Any]]) -> None:
    node = worker("short-lived")
    api.delete("/api/v1/namespaces/default/pods/short-lived", grace_s=0)
    _gone(api, node)


def test_orphans_of_a_karpenter_that_is_gone_are_removed(api: Api, aws: Aws, worker: Callable[[str], dict[str, Any]]) -> None:
    node = worker("orphan")
    kubectl("-n", "kube-system", "scale", "deployment/karpenter", "--replicas=0")
    kubectl("-n", "kube-system", "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=karpenter", "--timeout=90s")
    done = karpenter_orphans.remove(_Session(aws), bare_cluster.NAME, lambda seen: None)
    instance = node["spec"]["providerID"].rpartition("/")[2]
    assert f"terminated {instance}" in done
    assert any(said.startswith("deleted lt-") for said in done)
    assert not karpenter_orphans.remove(_Session(aws), bare_cluster.NAME, lambda seen: None)
    kubectl("-n", "kube-system", "scale", "deployment/karpenter", "--replicas=2")
    kubectl("-n", "kube-system", "rollout", "status", "deployment/karpenter", "--timeout=120s")
    _no_nodes(api)


def test_without_capacity_for_the_first_type_the_next_one_is_taken(api: Api, cloud: World, worker: Callable[[str], dict[str, Any]]) -> None:
    with shortage(cloud, FIRST):
        assert _type(worker("second-choice")) == SECOND


def test_with_no_capacity_at_all_it_says_what_was_tried(api: Api, cloud: World) -> None:
    _no_nodes(api)
    with shortage(cloud, FIRST, SECOND):
        api.apply(_pod("no-choice"))

        def told() -> str | Pending:
            return "; ".join(karpenter.capacity_errors(api)) or Pending("no event")

        try:
            said = Until("Karpenter to say so", told, NODE_WITHIN_S).wait()
        finally:
            api.delete("/api/v1/namespaces/default/pods/no-choice", grace_s=0)
    assert "InsufficientInstanceCapacity" in said
    assert SECOND in said


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("NodePool", {"spec": {"template": {"spec": {"expireAfter": "soon"}}}}),
        ("NodePool", {"spec": {"disruption": {"budgets": [{"nodes": "many"}]}}}),
        ("EC2NodeClass", {"spec": {"amiSelectorTerms": [{"alias": "al2023@latest", "id": "ami-1"}]}}),
        ("EC2NodeClass", {"spec": {"role": "and-a-profile"}}),
    ],
)
def test_what_the_rules_of_karpenter_forbid_is_refused(api: Api, kind: str, change: dict[str, Any]) -> None:
    made = Provisioning(QUEUE, "profile", {"core": ("subnet-1",), "inf2": ("subnet-1",)}, "sg-1", {})
    thing = next(t for t in karpenter.node_pools(INFRASTRUCTURE, made) if t["kind"] == kind)
    thing = manifests.merge(thing, {**change, "metadata": {"name": "wrong"}})
    with pytest.raises(Refused):
        api.apply(thing)
