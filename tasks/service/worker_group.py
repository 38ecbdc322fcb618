"""The worker group of a running service: its size now, its wanted size, and changes in place.

KubeRay passes on a changed Serve configuration at once. But it reads the number of workers from the RayService only when it creates
a RayCluster: the hash by which it compares specifications leaves these numbers out. So the number of replicas is changed in the
RayService, and the number of workers in the RayCluster itself, as Ray's autoscaler does it. KubeRay does not revert that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from prefect import get_run_logger

from blocks.errors import Permanent
from blocks.parameters import Service
from drills.kubernetes import manifests, pod_problems
from drills.kubernetes.api import Api, Object, conditions
from drills.kubernetes.node_labels import INF2
from drills.runner import ray_objects
from drills.runner.observer import Observer
from tasks.service.rayservice import NotServing
from tasks.support.site import Site
from tasks.support.step import step


class NotAsDeployed(Permanent):
    """The running service does not match the parameters."""


@dataclass(frozen=True, slots=True)
class Size:
    """The wanted numbers of workers, as in the RayCluster's worker group."""

    workers: int
    least: int
    most: int
    leaving: tuple[str, ...] = ()
    """Names of the pods that KubeRay must delete, whatever the numbers are (workersToDelete)."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """The workers of a service at one moment."""

    cluster: str
    """Name of the RayCluster."""
    index: int
    """Index of the worker group in the RayCluster."""
    scaled: bool
    """Whether Ray's autoscaler changes the size too."""
    size: Size
    pods: tuple[Object, ...]
    """All worker pods, oldest first."""

    @property
    def staying(self) -> tuple[Object, ...]:
        """The pods that are not being deleted."""
        return tuple(pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"])

    def on(self, node: str) -> Object | None:
        """The worker pod on that node, also while it is being deleted; None: there is none."""
        return next((pod for pod in self.pods if pod["spec"].get("nodeName") == node), None)

    def surplus(self, wanted: int) -> tuple[str, ...]:
        """Names of the pods beyond the wanted number: first those that are not ready, then the newest."""
        newest = sorted(reversed(self.staying), key=pod_problems.ready)
        return tuple(pod["metadata"]["name"] for pod in newest[: max(0, len(newest) - wanted)])

    def as_deployed(self, service: Service) -> Size:
        """The size according to the service's parameters; with scaling the load decides within their limits.

        Surplus pods are listed by name, because KubeRay would otherwise choose any. A name stays listed until the next scale-down:
        KubeRay counts a terminating pod as running, and would delete another one.
        """
        workers = min(max(self.size.workers, service.workers), service.most_workers)
        beyond = () if self.scaled else self.surplus(workers)
        return Size(workers, service.workers, service.most_workers, beyond or self.size.leaving)


def read(api: Api, service: Service) -> WorkerGroup:
    """Read the present worker group of the service.

    Raises:
        NotServing: there is no such service yet, or it is being upgraded to another Ray cluster.
        NotAsDeployed: it runs with scaling and the parameters have none, or the reverse.
    """
    where = f"{service.namespace}/{service.name}"
    with Observer(api, service.subject) as observer:
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
    """Set the wanted numbers of workers in the RayCluster. Nothing is written if they are set already."""
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
    """Set the number of replicas of every Serve deployment; without scaling, `least`. Nothing is written if it is set already."""
    path = f"/apis/ray.io/v1/namespaces/{service.namespace}/rayservices/{service.name}"
    now = str(api.get(path)["spec"]["serveConfigV2"])
    wanted = with_replicas(now, least, most)
    if yaml.safe_load(wanted) != yaml.safe_load(now):
        api.merge(path, {"spec": {"serveConfigV2": wanted}})


def with_replicas(text: str, least: int, most: int) -> str:
    """Return a Serve configuration with these numbers of replicas, in the form in which it is deployed."""
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
    """Resize the running Ray cluster to the service's parameters; returns whether its size was another one.

    Does nothing while a Ray cluster is created or replaced: KubeRay creates it with the numbers that were applied.
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
    """Resize the running service to the number of workers in its parameters."""
    if resize_running(site.api(), service):
        get_run_logger().info("the running service is resized to %d workers, at most %d", service.workers, service.most_workers)
