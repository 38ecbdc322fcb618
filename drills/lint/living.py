"""The Kubernetes objects of one RayService, as the rules read them. What could not be asked is None, and no rule guesses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from drills.runner.ray_objects import NODE_TYPE

Object = Mapping[str, Any]

FT_ANNOTATION = "ray.io/ft-enabled"
NAMESPACE_ANNOTATION = "ray.io/external-storage-namespace"


@dataclass(frozen=True)
class Group:
    """A group of a Ray cluster: the head, or workers of one kind."""

    name: str
    spec: Object

    @property
    def template(self) -> Object:
        """The pod template's spec."""
        return dict(self.spec["template"].get("spec") or {})

    @property
    def container(self) -> Object:
        """The Ray container, which is the first, as KubeRay takes it."""
        return dict(self.template["containers"][0])

    @property
    def parameters(self) -> Object:
        """The parameters of `ray start`."""
        return dict(self.spec.get("rayStartParams") or {})

    def variable(self, name: str) -> str | None:
        """The value of an environment variable of the Ray container; "" where it comes from elsewhere; None where it is not set."""
        for entry in self.container.get("env") or ():
            if entry["name"] == name:
                return str(entry.get("value", ""))
        return None

    @property
    def grace_s(self) -> float:
        """Seconds that a pod of the group has between SIGTERM and SIGKILL."""
        return float(self.template.get("terminationGracePeriodSeconds", 30))


@dataclass(frozen=True)
class Deployment:
    """A Serve deployment as the RayService configures it; what only the code says is not in it."""

    application: str
    name: str
    options: Object

    @property
    def path(self) -> str:
        """The name by which findings call it: application/deployment."""
        return f"{self.application}/{self.name}"

    @property
    def fewest(self) -> int | None:
        """The number of replicas that there always are; None where the code decides."""
        replicas = self.options.get("num_replicas")
        if (scaled := self.options.get("autoscaling_config")) or replicas == "auto":
            return int((scaled or {}).get("min_replicas", 1))
        return None if replicas is None else int(replicas)


@dataclass(frozen=True)
class Living:
    """A RayService with what belongs to it in its cluster."""

    ray_service: Object
    head_service: Object | None = None
    """The Service by which workers find the head; None: not asked, or not there yet."""
    pods: tuple[Object, ...] | None = None
    """The pods of the Ray cluster that serves; None: not asked."""
    budgets: tuple[Object, ...] | None = None
    """The PodDisruptionBudgets of the namespace; None: not asked, or the pods were not."""
    karpenter: bool | None = None
    """Whether the cluster has Karpenter's API; None: not asked, or the pods were not."""

    @property
    def spec(self) -> Object:
        """The spec of the RayService."""
        return dict(self.ray_service["spec"])

    @property
    def cluster(self) -> Object:
        """The RayCluster's spec in it."""
        return dict(self.spec["rayClusterConfig"])

    @property
    def annotations(self) -> Object:
        """The annotations of the RayService, which KubeRay hands on to its clusters."""
        return dict(self.ray_service["metadata"].get("annotations") or {})

    @cached_property
    def head(self) -> Group:
        """The group of the head pod."""
        return Group("head", self.cluster["headGroupSpec"])

    @cached_property
    def workers(self) -> tuple[Group, ...]:
        """The groups of worker pods."""
        return tuple(Group(spec["groupName"], spec) for spec in self.cluster.get("workerGroupSpecs") or ())

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The head and all groups of workers."""
        return (self.head, *self.workers)

    @cached_property
    def deployments(self) -> tuple[Deployment, ...]:
        """The deployments that `serveConfigV2` names."""
        return tuple(self._deployments())

    def _deployments(self) -> Iterator[Deployment]:
        written = self.spec.get("serveConfigV2") or ""
        config = yaml.safe_load(written) if isinstance(written, str) else written
        for application in (config or {}).get("applications") or ():
            for options in application.get("deployments") or ():
                yield Deployment(application.get("name", "default"), options["name"], options)

    @property
    def unnamed(self) -> tuple[str, ...]:
        """The deployments that run although `serveConfigV2` does not name them: what the code sets for them is not known."""
        named = {deployment.path for deployment in self.deployments}
        status = (self.ray_service.get("status") or {}).get("activeServiceStatus") or {}
        applications = status.get("applicationStatuses") or {}
        run = (f"{name}/{deployment}" for name, app in applications.items() for deployment in app.get("serveDeploymentStatuses") or ())
        return tuple(path for path in run if path not in named)

    @cached_property
    def gcs(self) -> Object | None:
        """The GCS's external storage as `gcsFaultToleranceOptions` would say it; None without fault tolerance.

        The older way, an annotation and RAY_REDIS_ADDRESS, counts as well (KubeRay's guide to GCS fault tolerance).
        """
        if options := self.cluster.get("gcsFaultToleranceOptions"):
            return dict(options)
        address = self.head.variable("RAY_REDIS_ADDRESS")
        if str(self.annotations.get(FT_ANNOTATION)).lower() == "true" and address is not None:
            return {"redisAddress": address, "externalStorageNamespace": self.annotations.get(NAMESPACE_ANNOTATION)}
        return None

    @property
    def on_redis(self) -> bool:
        """Whether the GCS's tables lie in Redis; KubeRay's other backend is a volume."""
        return self.gcs is not None and self.gcs.get("backend", "redis") == "redis"

    @property
    def worker_pods(self) -> tuple[Object, ...]:
        """The worker pods that are not being deleted; none where pods were not asked for."""
        workers = (pod for pod in self.pods or () if pod["metadata"].get("labels", {}).get(NODE_TYPE) == "worker")
        return tuple(pod for pod in workers if "deletionTimestamp" not in pod["metadata"])

    @property
    def fewest_workers(self) -> int:
        """The number of workers that there always are: with the autoscaler the minima of the groups."""
        key = "minReplicas" if self.cluster.get("enableInTreeAutoscaling") else "replicas"
        return sum(int(group.spec.get(key, group.spec.get("minReplicas", 0)) or 0) for group in self.workers)
