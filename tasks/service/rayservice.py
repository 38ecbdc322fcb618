"""The RayService: rendered from the manifests, applied, and waited for until it serves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import SecretStr

from blocks.errors import Permanent, PipelineError, TimedOut, Transient
from blocks.parameters import Engine, Service
from drills.definition import SteadyState
from drills.judge import steady_state
from drills.observed import Snapshot
from tasks.cluster import karpenter, neuron
from tasks.cluster.redis import Redis, redis_of
from tasks.images.publish import ImageRefs
from tasks.kubernetes import manifests, node_labels, ownership, pod_problems
from tasks.kubernetes.api import Api, Object
from tasks.service import api_key
from tasks.service import snapshot as seen
from tasks.service.engines import ongoing_requests
from tasks.service.observer import Observer
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step
from tasks.support.waiting import Pending, Until
from tasks.terraform.infrastructure import Outputs

LOOK_EVERY_S = 2.0


class NoRedis(Permanent):
    """GCS fault tolerance is wanted, and there is no Redis for it."""


class NotServing(Transient):
    """The service is not in its steady state."""


def fault_tolerant(service: Service, redis: Redis | None) -> bool:
    """Whether Ray's state is kept in that Redis.

    Raises:
        NoRedis: it shall be, and there is none.
    """
    if service.gcs_fault_tolerance and redis is None:
        raise NoRedis(
            "gcs_fault_tolerance is on and there is no Redis: set enable_gcs_ha of the infrastructure, or give the target a redis"
        )
    return redis is not None and service.gcs_fault_tolerance is not False


def render(service: Service, engine: Engine, images: ImageRefs, redis: Redis | None, hf_token: SecretStr | None = None) -> list[Object]:
    """All objects of the service in its namespace, in the order to apply them. Some are Secrets: never log them."""
    namespace = {"namespace": service.namespace}
    values = {**namespace, "service_name": service.name, "head_image": images.head, "workers": service.workers}
    (ray_service,) = manifests.load("rayservice", values)
    (fragment,) = manifests.load(f"engine-{engine}", {"worker_image": images.worker})
    ray_service = manifests.merge(ray_service, fragment)
    if service.scaling is not None:
        scaling = {**service.scaling.model_dump(), "ongoing_requests": ongoing_requests(service.scaling, engine)}
        (fragment,) = manifests.load("autoscaling", {"workers": service.workers, **scaling})
        ray_service = manifests.merge(ray_service, fragment)
    things: list[Object] = []
    if redis is not None and fault_tolerant(service, redis):
        things += manifests.load(
            "redis", {**namespace, "redis_auth_token": redis.auth_token.get_secret_value(), "redis_ca_pem": redis.ca_pem}
        )
        (fragment,) = manifests.load("gcs-fault-tolerance", {"redis_url": redis.url, "redis_ca_file": redis.ca_file})
        ray_service = manifests.merge(ray_service, fragment)
    if hf_token is not None:
        things += manifests.load("hf-token", {**namespace, "hf_token": hf_token.get_secret_value()})
    things += manifests.load("disruption", {**namespace, "workers_min_available": max(1, service.workers - 1)})
    return [*things, manifests.with_text_serve_config(ray_service)]


def steady_for(service: Service) -> SteadyState:
    """What a service of this size is when all of it is there: a replica of every deployment on every worker."""
    return SteadyState(min_endpoints=service.workers, min_replicas=service.workers, min_nodes=service.workers)


def look(observer: Observer) -> Snapshot | Pending:
    """The service in its steady state, else how far it is."""
    ray_service = observer.ray_service()
    if ray_service is None:
        return Pending("there is no RayService", 0)
    snapshot = observer.look()
    reasons = steady_state.not_steady(snapshot, steady_for(observer.service))
    if not seen.settled(ray_service):
        reasons.append("the operator has not taken up the newest specification")
    if not reasons:
        return snapshot
    troubles = pod_problems.troubles(observer.pods())
    if snapshot.conditions.get("UpgradeInProgress") and any("Unschedulable" in trouble for trouble in troubles):
        workers = observer.service.workers
        reasons.append(
            f"a second Ray cluster is to take over, and its {workers} workers need inf2 nodes beside those that serve: Karpenter launches "
            f"them, a managed group must have {2 * workers} (inf2_nodes.count)"
        )
    return Pending("; ".join([*troubles, *reasons]), _percent(snapshot, observer.service.workers))


def _percent(snapshot: Snapshot, workers: int) -> float:
    """A fifth each for: head pod there, head ready, workers ready, endpoints, and the application running."""
    parts = (
        float(snapshot.head is not None),
        float(snapshot.head is not None and snapshot.head.ready),
        sum(w.ready for w in snapshot.workers) / workers,
        len(snapshot.endpoints) / workers,
        float(snapshot.app_status == "RUNNING"),
    )
    return 99 * sum(min(1.0, part) for part in parts) / len(parts)


def wait_until_serving(api: Api, service: Service, within_s: float, on_look: Callable[[Pending], None]) -> Snapshot:
    """The service in its steady state.

    Raises:
        TimedOut: not within the time; says which pods are why, what is wrong with the nodes that they wait for, and the warnings of
            Kubernetes about them.
    """
    with Observer(api, service) as observer:

        def probe() -> Snapshot | Pending:
            found = look(observer)
            if isinstance(found, Pending) and "Unschedulable" in found.seen and (lacking := karpenter.out_of_stock(api)):
                return Pending(f"AWS has no capacity: {lacking[-1]}; {found.seen}", found.percent)
            return found

        try:
            return Until(f"RayService {service.namespace}/{service.name} to serve", probe, within_s, LOOK_EVERY_S, on_look).wait()
        except TimedOut as error:
            more = ""
            with contextlib.suppress(PipelineError):  # the reason is the one above, and waiting again would not help
                more += _held_up(api) if "Unschedulable" in str(error) else ""
                more += _warnings(api, service.namespace)
            raise TimedOut(f"{error}{more}") from error


def _held_up(api: Api) -> str:
    """What is wrong with nodes that are there or are wanted, a line each."""
    bare = neuron.without_chip(node_labels.inf2(api))
    plugin = neuron.troubles(api) if bare else []
    lines = [*(f"{name} offers no {neuron.CHIP}" for name in bare), *plugin, *karpenter.held_up(api)]
    return "".join(f"\n  {line}" for line in lines)


def _warnings(api: Api, namespace: str, most: int = 6) -> str:
    found = api.items(f"/api/v1/namespaces/{namespace}/events", fieldSelector="type=Warning")
    found.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    lines = {
        f"\n  {e['involvedObject'].get('name', '')}: {e.get('reason', '')} {' '.join(e.get('message', '').split())[:200]}": None
        for e in found
    }
    return "\nKubernetes warns:" + "".join(list(lines)[-most:]) if lines else ""


def remove(api: Api, service: Service, within_s: float, on_look: Callable[[Pending], None]) -> None:
    """The RayService is gone with its pods, and what it kept in Redis with it. Other Ray clusters of the namespace stay.

    Raises:
        TimedOut: not within the time.
    """
    clusters = set(_clusters(api, service))
    with Observer(api, service) as observer:

        def pods() -> list[str]:
            return [p["metadata"]["name"] for p in observer.pods() if p["metadata"]["labels"].get(seen.CLUSTER) in clusters]

        def probe() -> bool | Pending:
            here, there = observer.ray_service(), _clusters(api, service)
            clusters.update(there)
            left = [*(["RayService"] if here else []), *(f"RayCluster {name}" for name in there), *pods()]
            return Pending(f"still there: {', '.join(left)}") if left else True

        api.delete(f"{_collection(service)}/{service.name}")
        # They would drain for as long as a stream may take; nobody listens any more.
        for name in pods():
            api.delete(f"/api/v1/namespaces/{service.namespace}/pods/{name}", grace_s=0)
        Until(f"RayService {service.namespace}/{service.name} to go", probe, within_s, LOOK_EVERY_S, on_look).wait()


def remove_beside(api: Api, service: Service) -> None:
    """What was applied for the RayService beside it is gone, unless another service of ours in the namespace uses it."""
    if any(map(ownership.labelled, api.items(_collection(service)))):
        return
    inside = f"namespaces/{service.namespace}"
    for name in ("redis-auth", "hf-token"):
        ownership.remove(api, f"/api/v1/{inside}/secrets/{name}")
    api_key.remove(api, service.namespace)
    ownership.remove(api, f"/api/v1/{inside}/configmaps/redis-ca")
    ownership.remove(api, f"/apis/policy/v1/{inside}/poddisruptionbudgets/workers")


def others(api: Api, service: Service) -> list[str]:
    """Names of the other RayServices in its namespace."""
    return [name for thing in api.items(_collection(service)) if (name := str(thing["metadata"]["name"])) != service.name]


def _clusters(api: Api, service: Service) -> list[str]:
    """Names of the RayClusters that KubeRay made for the service."""
    made_for = f"ray.io/originated-from-cr-name={service.name},ray.io/originated-from-crd=RayService"
    found = api.items(f"/apis/ray.io/v1/namespaces/{service.namespace}/rayclusters", labelSelector=made_for)
    return [str(thing["metadata"]["name"]) for thing in found]


def _collection(service: Service) -> str:
    return f"/apis/ray.io/v1/namespaces/{service.namespace}/rayservices"


@step("apply service", deadline_s=300)
def apply_service(site: Site, service: Service, images: ImageRefs, outputs: Outputs | None) -> bool:
    """The RayService and what it needs are in the cluster; returns whether with GCS fault tolerance."""
    api, target, redis = site.api(), site.block, redis_of(site, outputs)
    ownership.ensure_namespace(api, service.namespace)
    api_key.put(api, service.namespace, target.api_key)
    for said in api.apply_all(render(service, target.engine_of(service), images, redis, target.hf_token)):
        get_run_logger().warning("took back fields that somebody else had changed: %s", said)
    return fault_tolerant(service, redis)


@step("wait for service", deadline_s=7300)
def wait_for_service(site: Site, service: Service) -> Snapshot:
    """The service is in its steady state: Ready, its application running, a replica on every node, a real answer."""
    progress = Progress("service-ready")
    started = time.monotonic()
    snapshot = wait_until_serving(site.api(), service, service.ready_within_s, progress.look)
    progress.say(100, f"serving after {time.monotonic() - started:.0f} s")
    create_markdown_artifact(key="service", markdown=_described(snapshot, service), description="The service")
    return snapshot


@step("check service", deadline_s=120, retries=5)
def check_service(site: Site, service: Service) -> Snapshot:
    """The service is in its steady state now; nothing is waited for beyond the retries.

    Raises:
        NotServing: it is not; says why.
    """
    with Observer(site.api(), service) as observer:
        found = look(observer)
    if isinstance(found, Pending):
        raise NotServing(f"{service.namespace}/{service.name}: {found.seen}")
    return found


@step("find images", deadline_s=60)
def find_images(site: Site, service: Service) -> ImageRefs:
    """The images that the service runs.

    Raises:
        NotServing: it does not run.
    """
    with Observer(site.api(), service) as observer:
        cluster, pods = seen.active_cluster(observer.ray_service()), observer.pods()
    running = {kind: [pod for pod in seen.pods_of(pods, cluster, kind) if pod_problems.running(pod)] for kind in ("head", "worker")}
    if not all(running.values()):
        raise NotServing(f"{service.namespace}/{service.name} has no running head and worker; deploy it first (deploy/main)")
    return ImageRefs(**{kind: str(found[-1]["spec"]["containers"][0]["image"]) for kind, found in running.items()})


def _described(snapshot: Snapshot, service: Service) -> str:
    rows = [("answers at", f"`{service.url}/v1` (OpenAI's API) in the cluster"), ("head", snapshot.head.pod if snapshot.head else "none")]
    rows += [("worker", f"{w.pod} on {w.node}") for w in snapshot.workers]
    rows += [("state of Ray kept in Redis", "yes" if snapshot.gcs_storage else "**no**: the loss of the head will lose requests")]
    return "## Service\n\n| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows)
