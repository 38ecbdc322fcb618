"""The workers of a service that runs: how many there are and shall be, changed in place.

KubeRay hands on a Serve configuration whenever it changes. The number of workers it takes from the RayService only when it makes a
Ray cluster: a specification that differs in nothing else counts as the same, because the hash that it compares leaves these numbers
out. So replicas are counted in the RayService, and workers in the RayCluster itself, as Ray's autoscaler does; KubeRay does not
take that back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from prefect import get_run_logger

from blocks.errors import Permanent
from blocks.parameters import Service
from tasks.kubernetes import manifests, pod_problems
from tasks.kubernetes.api import Api, Object, conditions
from tasks.kubernetes.node_labels import INF2
from tasks.service import ray_objects
from tasks.service.observer import Observer
from tasks.service.rayservice import NotServing
from tasks.support.site import Site
from tasks.support.step import step


class NotAsDeployed(Permanent):
    """What runs is not what the parameters say."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many workers there shall be."""

    workers: int
    least: int
    most: int
    leaving: tuple[str, ...] = ()
    """Names of the pods that KubeRay shall delete, whatever the numbers are."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """The workers as they are."""

    cluster: str
    """Name of the RayCluster."""
    index: int
    """Of the group in it."""
    scaled: bool
    """Whether Ray's autoscaler changes the size as well."""
    size: Size
    pods: tuple[Object, ...]
    """All worker pods, the oldest first."""

    @property
    def staying(self) -> tuple[Object, ...]:
        """The pods that nobody has deleted."""
        return tuple(pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"])

    def on(self, node: str) -> Object | None:
        """The pod on that node, even when it is ending; None when there is none."""
        return next((pod for pod in self.pods if pod["spec"].get("nodeName") == node), None)

    def surplus(self, wanted: int) -> tuple[str, ...]:
        """Names of the pods that are one too many: those that do not serve yet, then the newest."""
        newest = sorted(reversed(self.staying), key=pod_problems.ready)
        return tuple(pod["metadata"]["name"] for pod in newest[: max(0, len(newest) - wanted)])

    def as_deployed(self, service: Service) -> Size:
        """The size that the service's parameters say; with scaling the load decides within their limits.

        Workers beyond it go by name, as KubeRay would choose any. Who left stays named until the next one leaves: KubeRay counts a
        pod as running for as long as it sees it, and would choose another one to go if nobody told it whose number that is.
        """
        workers = min(max(self.size.workers, service.workers), service.most_workers)
        beyond = () if self.scaled else self.surplus(workers)
        return Size(workers, service.workers, service.most_workers, beyond or self.size.leaving)


def read(api: Api, service: Service) -> WorkerGroup:
    """The workers of the service as they are now.

    Raises:
        NotServing: there is no such service yet, or it changes over to another Ray cluster.
        NotAsDeployed: whether it scales is not what the parameters say.
    """
    where = f"{service.namespace}/{service.name}"
    with Observer(api, service) as observer:
        ray_service, pods = observer.ray_service(), observer.pods()
    name = ray_objects.active_cluster(ray_service)
    found = api.find(_cluster(service, name)) if name else None
    if ray_service is None or found is None or conditions(ray_service).get("UpgradeInProgress"):
        raise NotServing(f"{where} does not run, or changes over to another Ray cluster; deploy it first (deploy/main)")
    scaled = bool(found["spec"].get("enableInTreeAutoscaling"))
    if scaled != (service.scaling is not None):
        raise NotAsDeployed(f"{where} runs {'with' if scaled else 'without'} scaling: give the parameters that it was deployed with")
    index, group = next((i, g) for i, g in enumerate(found["spec"]["workerGroupSpecs"]) if g["groupName"] == INF2)
    leaving = tuple((group.get("scaleStrategy") or {}).get("workersToDelete") or ())
    size = Size(int(group["replicas"]), int(group["minReplicas"]), int(group["maxReplicas"]), leaving)
    return WorkerGroup(name, index, scaled, size, tuple(ray_objects.pods_of(pods, name, "worker")))


def resize(api: Api, service: Service, group: WorkerGroup, size: Size) -> None:
    """KubeRay is told to have so many workers. Nothing is written when it was."""
    if size == group.size:
        return
    path = f"/spec/workerGroupSpecs/{group.index}"
    numbers = {"replicas": size.workers, "minReplicas": size.least, "maxReplicas": size.most}
    operations: list[Object] = [
        {"op": "test", "path": f"{path}/groupName", "value": INF2},
        *({"op": "add", "path": f"{path}/{key}", "value": value} for key, value in numbers.items()),
        {"op": "add", "path": f"{path}/scaleStrategy", "value": {"workersToDelete": list(size.leaving)}},
    ]
    api.edit(_cluster(service, group.cluster), operations)


def set_replicas(api: Api, service: Service, least: int, most: int) -> None:
    """Serve is told to have so many replicas of every deployment; without scaling, exactly the least. Nothing is written when it was."""
    path = f"/apis/ray.io/v1/namespaces/{service.namespace}/rayservices/{service.name}"
    now = str(api.get(path)["spec"]["serveConfigV2"])
    wanted = with_replicas(now, least, most)
    if yaml.safe_load(wanted) != yaml.safe_load(now):
        api.merge(path, {"spec": {"serveConfigV2": wanted}})


def with_replicas(text: str, least: int, most: int) -> str:
    """A Serve configuration with these numbers of replicas, in the form in which it is deployed."""
    config: dict[str, Any] = yaml.safe_load(text)
    for deployment in (d for application in config["applications"] for d in application["deployments"]):
        if scaling := deployment.get("autoscaling_config"):
            scaling.update(min_replicas=least, max_replicas=most)
        else:
            deployment["num_replicas"] = least
    return manifests.serve_text(config)


def _cluster(service: Service, name: str) -> str:
    return f"/apis/ray.io/v1/namespaces/{service.namespace}/rayclusters/{name}"


def resize_running(api: Api, service: Service) -> bool:
    """The running Ray cluster has as many workers as the service shall have; returns whether that had to be told.

    Nothing is done for a cluster that is only being made, or changes over to another one: KubeRay makes those as they are applied.
    """
    try:
        group = read(api, service)
    except (NotServing, NotAsDeployed):
        return False
    wanted = group.as_deployed(service)
    resize(api, service, group, wanted)
    return wanted != group.size


@step("size service", deadline_s=60)
def size_service(site: Site, service: Service) -> None:
    """The service has the workers of its parameters, or is getting them."""
    if resize_running(site.api(), service):
        get_run_logger().info("the running service is brought to %d workers, at most %d", service.workers, service.most_workers)
