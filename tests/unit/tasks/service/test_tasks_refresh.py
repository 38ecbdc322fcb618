"""Old nodes are replaced one after the other, a new worker first, and the next run finishes the work of a run that died."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import yaml
from kubernetes_server import Server, serving

from blocks.errors import TimedOut
from blocks.parameters import Scaling, Service
from drills.kubernetes.api import Api
from drills.runner.waiting import Pending
from tasks.images.publish import ImageRefs
from tasks.service import rayservice, refresh, worker_group
from tasks.service.refresh import NoRoom, NotReplaceable, OldNode, Which
from tasks.service.worker_group import NotAsDeployed

NAMESPACE = "/api/v1/namespaces/mistral"
RAY = "/apis/ray.io/v1/namespaces/mistral"
CLUSTER = f"{RAY}/rayclusters/mistral-1"
NOW = 1_790_000_000.0
SERVICE = Service()
SCALED = Service(scaling=Scaling(max_workers=3))
IMAGES = ImageRefs(head="h", worker="w")


@cache
def rendered(service: Service) -> dict[str, Any]:
    """The specification of the service's RayService."""
    (found,) = [t for t in rayservice.render(service, "cpu", IMAGES, None) if t["kind"] == "RayService"]
    return dict(found["spec"])


@cache
def replicas_in(configuration: str) -> int:
    """The number of replicas that Serve is told of for all deployments."""
    (application,) = yaml.safe_load(configuration)["applications"]
    (number,) = {d.get("autoscaling_config", {}).get("min_replicas", d["num_replicas"]) for d in application["deployments"]}
    return int(number)


class World(Server):
    """A cluster with KubeRay and Karpenter, which do at once what is requested."""

    def __init__(self, service: Service = SERVICE, *, managed: bool = False) -> None:
        super().__init__()
        self.service, self.managed, self.made = service, managed, 0
        self.stock = 10
        """Number of nodes that can still be launched."""
        self.log: list[str] = []
        self.fewest = 99
        """Smallest number of placed workers up to now."""
        spec = copy.deepcopy(rendered(service))
        self.objects[f"{RAY}/rayservices/mistral"] = {
            "metadata": {"name": "mistral", "generation": 1},
            "spec": spec,
            "status": {
                "observedGeneration": 99,
                "activeServiceStatus": {"rayClusterName": "mistral-1"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        self.objects[CLUSTER] = {"metadata": {"name": "mistral-1"}, "spec": spec["rayClusterConfig"]}
        self.objects["/apis/karpenter.sh/v1/nodepools/inf2"] = {"metadata": {"name": "inf2"}, "spec": {"limits": {"nodes": 3}}}
        self.pod("head", "head", "core-1")
        self.reconcile()
        self.log.clear()

    @property
    def replicas(self) -> int:
        return replicas_in(self.objects[f"{RAY}/rayservices/mistral"]["spec"]["serveConfigV2"])

    @property
    def group(self) -> dict[str, Any]:
        (group,) = self.objects[CLUSTER]["spec"]["workerGroupSpecs"]
        return group

    @property
    def size(self) -> tuple[int, int, int]:
        return self.group["replicas"], self.group["minReplicas"], self.group["maxReplicas"]

    def named(self, prefix: str) -> dict[str, dict[str, Any]]:
        return {path.rpartition("/")[2]: thing for path, thing in self.objects.items() if path.rpartition("/")[0] == prefix}

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        return self.named("/api/v1/nodes")

    @property
    def workers(self) -> dict[str, str]:
        """Node of each worker, by the worker's name."""
        pods = self.named(f"{NAMESPACE}/pods")
        return {name: pod["spec"].get("nodeName", "") for name, pod in pods.items() if name.startswith("worker")}

    def node(self) -> str:
        """Create a node; returns its name."""
        self.stock -= 1
        name = f"inf2-{len(self.requests)}-{self.made}"
        labels = {"leeward.dev/pool": "inf2", **({} if self.managed else {"karpenter.sh/nodepool": "inf2"})}
        created = "2026-01-01T00:00:00Z" if not self.requests else "2027-01-01T00:00:00Z"
        self.objects[f"/api/v1/nodes/{name}"] = {"metadata": {"name": name, "labels": labels, "creationTimestamp": created}, "spec": {}}
        if not self.managed:
            claim = {"metadata": {"name": f"claim-{name}", "labels": {"karpenter.sh/nodepool": "inf2"}}, "status": {"nodeName": name}}
            self.objects[f"/apis/karpenter.sh/v1/nodeclaims/claim-{name}"] = claim
        return name

    def drift(self, name: str) -> None:
        status = self.objects[f"/apis/karpenter.sh/v1/nodeclaims/claim-{name}"]["status"]
        status["conditions"] = [{"type": "Drifted", "status": "True"}]

    def pod(self, name: str, kind: str, node: str) -> None:
        self.made += 1
        ready = [{"type": "Ready", "status": "True" if node else "False"}]
        self.objects[f"{NAMESPACE}/pods/{name}"] = {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "creationTimestamp": f"2026-11-23T12:00:{self.made:02}Z",
                "labels": {"ray.io/cluster": "mistral-1", "ray.io/node-type": kind},
            },
            "spec": {"containers": [{"name": "ray"}], "terminationGracePeriodSeconds": 70, **({"nodeName": node} if node else {})},
            "status": {"phase": "Running", "podIP": f"10.0.0.{self.made}", "conditions": ready},
        }

    def reconcile(self) -> None:
        """Do what KubeRay does for the numbers, and Karpenter for the pods."""
        for name in self.group.get("scaleStrategy", {}).get("workersToDelete", ()):
            if self.objects.pop(f"{NAMESPACE}/pods/{name}", None):
                self.log.append("worker gone")
        least, most = self.group["minReplicas"], self.group["maxReplicas"]
        while len(self.workers) < min(most, max(least, self.group["replicas"])):
            free = [n for n, thing in self.nodes.items() if not thing["spec"].get("unschedulable") and n not in self.workers.values()]
            node = free[0] if free else self.node() if self.stock > 0 else ""
            self.pod(f"worker-{self.made}", "worker", node)
            self.log.append("worker new")
        assert len(self.workers) <= max(least, self.group["replicas"]), "KubeRay would choose any worker to go"
        self.fewest = min(self.fewest, sum(map(bool, self.workers.values())))

    def handle(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        if "/proxy/" in url:
            return 200, json.dumps(["yes"] if "infer" in url else self.told()).encode()
        if "/endpointslices" in url:
            endpoints = [{"conditions": {"ready": True}, "targetRef": {"name": w}} for w, node in self.workers.items() if node]
            return 200, {"items": [{"metadata": {}, "endpoints": endpoints}]}
        answer = super().handle(method, url, body)
        if method == "GET":
            return answer
        if method == "PATCH" and url.startswith(CLUSTER):
            self.reconcile()
        if method == "PATCH" and "unschedulable" in str(body):
            self.log.append("cordon")
        if "serveConfigV2" in str(body):
            self.log.append(f"replicas {self.replicas}")
        if method == "DELETE" and "/nodeclaims/" in url:
            node = url.rpartition("/claim-")[2]
            assert node not in self.workers.values(), "a worker was on it"
            del self.objects[f"/api/v1/nodes/{node}"]
            self.log.append("node gone")
        return answer

    def told(self) -> dict[str, Any]:
        """Ray's report about Serve."""
        pods = self.named(f"{NAMESPACE}/pods")
        places = [pods[name]["status"]["podIP"] for name, node in self.workers.items() if node][: self.replicas]
        those = [{"actor_id": f"a{ip}", "state": "RUNNING", "node_ip": ip} for ip in places]
        return {"applications": {"mistral": {"status": "RUNNING", "deployments": {"api": _told(those), "engine": _told(those)}}}}


def _told(replicas: list[dict[str, str]]) -> dict[str, Any]:
    return {"status": "HEALTHY", "replicas": replicas}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(rayservice, "LOOK_EVERY_S", 0.01)


def silent(_: Pending) -> None:
    pass


@contextmanager
def running(world: World) -> Iterator[Api]:
    with serving(world) as (_, api):
        yield api


def run(api: Api, which: Which = "all", owner: str = "run-1", service: Service = SERVICE) -> list[OldNode]:
    """Run the stage without Prefect."""
    chosen = refresh.choose(api, service, which, owner, NOW)
    for node in chosen:
        refresh.grow(api, service, node.name, silent)
        refresh.cordon(api, node.name)
        refresh.retire(api, service, node.name, silent)
        refresh.settle(api, service, silent)
        refresh.remove(api, node, silent)
    if not chosen:
        refresh.settle(api, service, silent)
    return chosen


ONE_NODE = ["worker new", "replicas 3", "cordon", "worker gone", "replicas 2", "node gone"]


def test_a_new_worker_answers_before_the_old_one_is_deleted_and_the_replicas_are_reduced_last() -> None:
    world = World()
    old = set(world.nodes)
    with running(world) as api:
        assert {node.name for node in run(api)} == old
    assert world.log == ONE_NODE * 2
    assert world.fewest == 2
    assert world.size == (2, 2, 2)
    assert not old & set(world.nodes)
    assert set(world.nodes) == set(world.workers.values())
    assert not any(node["spec"].get("unschedulable") for node in world.nodes.values())


def test_only_drifted_nodes_are_old_unless_all_are_asked_for() -> None:
    world = World()
    first, second = world.nodes
    world.drift(second)
    with running(world) as api:
        assert [node.name for node in run(api, "drifted")] == [second]
        assert run(api, "drifted") == []
    assert first in world.nodes
    assert world.log == ONE_NODE


def test_a_node_that_karpenter_is_terminating_is_old() -> None:
    world = World()
    first, _ = world.nodes
    world.objects[f"/apis/karpenter.sh/v1/nodeclaims/claim-{first}"]["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
    with running(world) as api:
        assert [node.name for node in run(api, "drifted")] == [first]
    assert world.log == ONE_NODE


def test_nothing_is_written_when_nothing_is_old() -> None:
    world = World()
    with running(world) as api:
        assert run(api, "drifted") == []
    assert {method for method, _, _ in world.requests} == {"GET"}


def test_an_old_node_without_a_worker_is_replaced_first_so_that_it_gets_no_new_worker() -> None:
    world = World()
    idle = world.node()
    with running(world) as api:
        assert run(api)[0].name == idle
    assert world.log == ["cordon", "node gone", *ONE_NODE * 2]


class Crash(Exception):
    """The simulated death of the run."""


class Mortal:
    """An API that raises Crash right after a number of writes."""

    def __init__(self, api: Api, writes: int) -> None:
        self._api, self._left = api, writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._api, name)
        return self._counted(found) if name in ("edit", "merge", "delete") else found

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            done = write(*args, **options)
            self._left -= 1
            if self._left == 0:
                raise Crash
            return done

        return counted


def with_an_old_node(service: Service) -> tuple[World, str]:
    world = World(service)
    old = next(iter(world.nodes))
    world.drift(old)
    return world, old


def writes(service: Service) -> int:
    world, _ = with_an_old_node(service)
    with running(world) as api:
        run(api, "drifted", service=service)
    return sum(method in ("PATCH", "DELETE") for method, _, _ in world.requests)


@pytest.mark.parametrize("service", [SERVICE, SCALED], ids=["fixed", "scaled"])
def test_a_run_that_died_after_any_write_is_finished_when_it_is_tried_again(service: Service) -> None:
    for died_after in range(1, writes(service) + 1):
        world, old = with_an_old_node(service)
        with running(world) as api:
            with pytest.raises(Crash):
                run(Mortal(api, died_after), "drifted", service=service)  # type: ignore[arg-type]
            run(api, "drifted", service=service)
        assert old not in world.nodes, died_after
        assert (world.replicas, world.fewest, len(world.workers)) == (2, 2, 2), died_after
        assert world.size == (2, 2, service.most_workers), died_after
        assert set(world.nodes) == set(world.workers.values()), died_after
        assert world.log.count("worker gone") == 1, died_after


@pytest.mark.parametrize("died_after", [1, 10])
def test_a_retried_run_of_all_nodes_does_not_replace_nodes_that_were_created_meanwhile(died_after: int) -> None:
    world = World()
    old = set(world.nodes)
    with running(world) as api:
        with pytest.raises(Crash):
            run(Mortal(api, died_after))  # type: ignore[arg-type]
        run(api)
    assert not old & set(world.nodes)
    assert world.log.count("node gone") == 2


def test_another_run_finishes_nodes_that_a_dead_run_cordoned_but_not_those_it_only_marked() -> None:
    world = World()
    first, second = world.nodes
    with running(world) as api:
        with pytest.raises(Crash):
            run(Mortal(api, 7))  # type: ignore[arg-type]
        assert world.nodes[first]["spec"]["unschedulable"]
        assert [node.name for node in run(api, "drifted", owner="run-2")] == [first]
    assert second in world.nodes
    assert world.replicas == len(world.workers) == 2


def test_a_surplus_worker_of_a_dead_run_is_deleted_by_name() -> None:
    world = World()
    (node, _) = world.nodes
    with running(world) as api:
        refresh.grow(api, SERVICE, node, silent)
        assert len(world.workers) == 3
        newest = list(world.workers)[-1]
        assert run(api, "drifted", owner="run-2") == []
    assert newest not in world.workers
    assert world.log == ["worker new", "replicas 3", "worker gone", "replicas 2"]


def test_with_scaling_the_minimum_is_raised_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(SCALED)
    sizes: list[tuple[int, int, int]] = []
    resize = worker_group.resize

    def seen(api: Api, service: Service, group: worker_group.WorkerGroup, size: worker_group.Size) -> None:
        resize(api, service, group, size)
        sizes.append(world.size)

    monkeypatch.setattr(worker_group, "resize", seen)
    world.drift(next(iter(world.nodes)))
    with running(world) as api:
        run(api, "drifted", service=SCALED)
    raised, leaving, capped, settled = sizes
    assert raised == (3, 3, 3)
    assert leaving == (2, 2, 3)
    assert capped == (2, 2, 2), "its replicas must not bring another worker"
    assert settled == (2, 2, 3)
    assert world.log == ONE_NODE


def test_with_scaling_the_load_decides_how_many_workers_stay() -> None:
    world = World(SCALED)
    world.objects["/apis/karpenter.sh/v1/nodepools/inf2"]["spec"]["limits"]["nodes"] = 4
    world.group["replicas"] = 3
    world.reconcile()
    world.log.clear()
    world.drift(next(iter(world.nodes)))
    with running(world) as api:
        run(api, "drifted", service=SCALED)
    assert world.log == ["worker new", "replicas 4", "cordon", "worker gone", "replicas 2", "node gone"]
    assert world.size == (3, 2, 3)
    assert world.fewest == 2, "that was before"
    assert len(world.workers) == 3


def untouched(world: World) -> bool:
    return {method for method, _, _ in world.requests} == {"GET"}


@pytest.mark.parametrize("which", ["all", "drifted"])
def test_nodes_of_a_managed_group_are_refused_before_anything_is_touched(which: Which) -> None:
    world = World(managed=True)
    with running(world) as api, pytest.raises(NotReplaceable, match="updated by EKS"):
        run(api, which)
    assert untouched(world)


def test_a_pool_without_room_for_one_more_node_is_refused_before_anything_is_touched() -> None:
    world = World()
    world.objects["/apis/karpenter.sh/v1/nodepools/inf2"]["spec"]["limits"]["nodes"] = 2
    with running(world) as api, pytest.raises(NoRoom, match="may have 2"):
        run(api)
    assert untouched(world)


@pytest.mark.parametrize("other", [Service(workers=3), Service(workers=4), SCALED, Service(workers=1)])
def test_other_parameters_than_those_of_what_runs_are_refused_before_anything_is_touched(other: Service) -> None:
    world = World(Service(workers=3) if other.workers == 1 else SERVICE)
    with running(world) as api, pytest.raises(NotAsDeployed):
        run(api, service=other)
    assert untouched(world)


def test_a_worker_without_a_node_is_removed_again_at_the_timeout() -> None:
    world = World()
    world.stock = 0
    before = dict(world.workers)
    short = SERVICE.model_copy(update={"ready_within_s": 0.1})
    with running(world) as api, pytest.raises(TimedOut, match="worker"):
        run(api, service=short)
    assert world.workers == before
    assert (world.replicas, world.size) == (2, (2, 2, 2))
    assert not any(node["spec"].get("unschedulable") for node in world.nodes.values())


def test_the_serve_configuration_is_restored_to_the_same_text() -> None:
    for service in (SERVICE, SCALED):
        text = rendered(service)["serveConfigV2"]
        more = worker_group.with_replicas(text, 3, 4)
        assert more != text
        assert worker_group.with_replicas(more, 2, service.most_workers) == text


def test_a_deploy_with_another_number_of_workers_resizes_the_running_cluster() -> None:
    world = World()
    with running(world) as api:
        assert not worker_group.resize_running(api, SERVICE)
        assert worker_group.resize_running(api, SERVICE.model_copy(update={"workers": 3}))
        assert (world.size, len(world.workers)) == ((3, 3, 3), 3)
        oldest = list(world.workers)[:2]
        assert worker_group.resize_running(api, SERVICE)
        assert (world.size, list(world.workers)) == ((2, 2, 2), oldest)


def test_a_deploy_leaves_the_number_of_workers_to_the_load_within_its_limits() -> None:
    world = World(SCALED)
    with running(world) as api:
        assert worker_group.resize_running(api, SCALED.model_copy(update={"scaling": Scaling(max_workers=4)}))
        assert world.size == (2, 2, 4)


def test_a_service_that_does_not_run_yet_needs_no_change_of_its_size() -> None:
    world = World()
    del world.objects[f"{RAY}/rayservices/mistral"]
    with running(world) as api:
        assert not worker_group.resize_running(api, SERVICE)
