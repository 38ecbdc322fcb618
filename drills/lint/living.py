"""The Kubernetes objects of one RayService, as the rules read them. What could not be asked is None, and no rule guesses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from drills.lint import texts
from drills.lint.texts import number
from drills.runner.ray_objects import HEAD_PATIENCE, NODE_TYPE

Object = Mapping[str, Any]

FT_ANNOTATION = "ray.io/ft-enabled"
NAMESPACE_ANNOTATION = "ray.io/external-storage-namespace"
ACCELERATORS = ("GPU", "TPU", "HPU", "NPU", "neuron_cores")
"""Ray's names of what it finds on a node by itself."""
KINDS = ("accelerator_type:", "TPU-")
"""How the names begin that Ray makes of the kind of an accelerator that it finds."""


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
        return number(self.template.get("terminationGracePeriodSeconds", 30))

    @property
    def head_patience(self) -> str | None:
        """Seconds that its processes wait for a head that does not answer, as written; None where KubeRay or Ray decides."""
        return self.variable(HEAD_PATIENCE) or None

    def fewest(self, scaled: bool) -> int:
        """The number of its pods that there always are; hosts that come and go together count as one. As KubeRay counts them.

        Args:
            scaled: Whether Ray's autoscaler decides between the limits.
        """
        if self.spec.get("suspend") is True:
            return 0
        least, most, written = (self.spec.get(key) for key in ("minReplicas", "maxReplicas", "replicas"))
        floor = int(number(least or 0))
        if scaled or written is None:
            return floor
        return max(floor, int(number(written if most is None else min(number(written), number(most)))))

    @property
    def resources(self) -> dict[str, str]:
        """What `resources` of the group tells to `ray start`, the newer way."""
        return {str(name): str(amount) for name, amount in (self.spec.get("resources") or {}).items()}

    @property
    def cpus(self) -> object:
        """The number of CPUs that Ray is told of, as written; None where it follows from the container."""
        told = (amount for name, amount in self.resources.items() if name.lower() == "cpu")
        return self.parameters.get("num-cpus", next(told, None))

    def carries(self, wanted: Mapping[str, float]) -> bool:
        """Whether a replica that asks for this fits on one of its pods, by what KubeRay tells to `ray start`. An accelerator that the
        container asks for, and what Ray calls by its kind, counts as many times as needed: Ray counts them itself."""
        resources = self.container.get("resources") or {}
        asked = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
        has = {name: _cores(amount) for name, amount in self.resources.items() if name.lower() != "memory"}
        has["CPU"] = (
            _cores(str(self.cpus)) if self.cpus is not None else math.ceil(_cores(str(asked["cpu"]))) if "cpu" in asked else math.inf
        )
        for told in (self.parameters.get("resources"), self.variable("RAY_OVERRIDE_RESOURCES")):
            has |= {name: number(n) for name, n in re.findall(r'"([^"\\]+)\\?"\s*:\s*([\d.]+)', str(told or ""))}
        if any("/" in name for name in (*asked, *self.resources)) or self.parameters.get("num-gpus"):
            has |= {name: math.inf for name in wanted if name in ACCELERATORS or name.startswith(KINDS)}
        return all(has.get(name, 0) >= amount for name, amount in wanted.items() if amount)


def _cores(quantity: str) -> float:
    """Return a quantity of Kubernetes as a number of processor cores."""
    return number(quantity[:-1]) / 1000 if quantity.endswith("m") else number(quantity)


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
            return int(number((scaled or {}).get("min_replicas", 1)))
        return None if replicas is None else int(number(replicas))

    @property
    def wants(self) -> dict[str, float] | None:
        """What one replica asks of a Ray node, by Ray's name of the resource; None where the code decides."""
        actor = self.options.get("ray_actor_options")
        if actor is None or "placement_group_bundles" in self.options:
            return None
        wanted = {"CPU": actor.get("num_cpus", 1), "GPU": actor.get("num_gpus", 0), **(actor.get("resources") or {})}
        return {name: number(amount or 0) for name, amount in wanted.items()}


def _llm_server(model: Object) -> tuple[str, Object]:
    """Return name and options of the deployment that Ray Serve LLM makes of one of its models, with its own defaults where they are not
    Serve's. Its replicas are placed by bundles, which the code computes."""
    name = str((model.get("model_loading_config") or {}).get("model_id")).replace("/", "--").replace(".", "_")
    defaults = {"num_replicas": "auto", "max_ongoing_requests": 10**9, "placement_group_bundles": ()}
    return f"LLMServer:{name}", {**defaults, **(model.get("deployment_config") or {})}


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
    redis: tuple[Object, ...] | None = None
    """The pods at the GCS's storage address; none where it is not in this Kubernetes cluster. None: not asked."""
    planned: tuple[Object, ...] = ()
    """The pods as KubeRay would make them, where no cluster is asked."""

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

    @cached_property
    def serve_config(self) -> Object:
        """The content of `serveConfigV2`."""
        written = self.spec.get("serveConfigV2") or ""
        try:
            found = texts.documents(written) if isinstance(written, str) else [written]
        except texts.Unreadable as error:
            raise texts.Unreadable(f"serveConfigV2 is {error}") from None
        content = (found[0] if found else None) or {}
        texts.require(content, {}, "serveConfigV2")
        return dict(content)

    @property
    def http_options(self) -> Object:
        """The options of Serve's proxies, as far as they are written there."""
        return dict(self.serve_config.get("http_options") or {})

    def before(self, *version: int) -> bool:
        """Whether the service says that its Ray is older than this version."""
        found = re.match(r"(\d+)\.(\d+)", str(self.cluster.get("rayVersion") or ""))
        return found is not None and (int(found[1]), int(found[2])) < version

    def _deployments(self) -> Iterator[Deployment]:
        for application in self.serve_config.get("applications") or ():
            name = application.get("name", "default")
            for options in application.get("deployments") or ():
                yield Deployment(name, options["name"], options)
            args = application.get("args")
            for model in (args.get("llm_configs") if isinstance(args, Mapping) else None) or ():
                if isinstance(model, Mapping):  # else it is the name of a file
                    yield Deployment(name, *_llm_server(model))

    @property
    def unnamed(self) -> tuple[str, ...]:
        """The deployments that run although `serveConfigV2` does not name them: what the code sets for them is not known. Before they run,
        the applications of which it names none."""
        named = {deployment.path for deployment in self.deployments}
        status = (self.ray_service.get("status") or {}).get("activeServiceStatus") or {}
        applications = status.get("applicationStatuses") or {}
        run = (f"{name}/{deployment}" for name, app in applications.items() for deployment in app.get("serveDeploymentStatuses") or ())
        written = {application.get("name", "default") for application in self.serve_config.get("applications") or ()}
        silent = written - {deployment.application for deployment in self.deployments} - set(applications)
        return (*(path for path in run if path not in named), *(f"the deployments of {name}" for name in sorted(silent)))

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
    def ray_pods(self) -> tuple[Object, ...]:
        """The pods of the Ray cluster that are not being deleted, else the planned ones; none where pods were not asked for."""
        pods = self.planned if self.pods is None else self.pods
        return tuple(pod for pod in pods if "deletionTimestamp" not in pod["metadata"])

    @property
    def worker_pods(self) -> tuple[Object, ...]:
        """The pods of `ray_pods` that are workers."""
        return tuple(pod for pod in self.ray_pods if pod["metadata"].get("labels", {}).get(NODE_TYPE) == "worker")

    @property
    def scarcest(self) -> tuple[str, dict[str, int]]:
        """The deployment that the fewest workers can take, and how many of each group there always are for it; without deployments "" and
        all of them. Groups on which its replicas do not fit are not in it."""
        scaled = self.cluster.get("enableInTreeAutoscaling") is True
        wanted = [(deployment.path, deployment.wants or {}) for deployment in self.deployments] or [("", {})]
        fitting = [(path, {group.name: group.fewest(scaled) for group in self.workers if group.carries(one)}) for path, one in wanted]
        return min(fitting, key=lambda found: sum(found[1].values()))

    @property
    def fewest_workers(self) -> int:
        """The number of workers that there always are for each deployment."""
        return sum(self.scarcest[1].values())


LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts by which a head reaches a container of its own pod."""


def storage_hosts(living: Living) -> list[str]:
    """Return the hosts of the GCS's storage."""
    addresses = str((living.gcs or {}).get("redisAddress", "")).split(",") if living.on_redis else []
    bare = [address.strip().rpartition("://")[2].rpartition("@")[2] for address in addresses if address.strip()]
    return [re.sub(r":\d+$", "", address).strip("[]") for address in bare]


def service_of(host: str, namespace: str) -> tuple[str, str] | None:
    """Return namespace and name of the Service that a host in Kubernetes' DNS means; None where it is no such name."""
    labels = host.split(".")
    if "svc" in labels[2:]:
        at = labels.index("svc")
        return labels[at - 1], labels[at - 2]
    return (namespace, labels[0]) if len(labels) == 1 and labels[0] else None
