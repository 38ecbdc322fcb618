"""The RayService: rendered from the manifests, applied, observed until it serves, and removed."""

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
from drills.kubernetes import manifests, node_labels, ownership, pod_problems
from drills.kubernetes.api import Api, Object
from drills.observed import Snapshot
from drills.runner import api_key, ray_objects
from drills.runner.observer import Observer
from drills.runner.waiting import Pending, Until
from tasks.aws.account import state_bucket
from tasks.cluster import karpenter, neuron
from tasks.cluster.redis import Redis, find_redis
from tasks.images.publish import ImageRefs
from tasks.service import ray_token
from tasks.service.engines import checkpoint, compiles, ongoing_requests, overlays, ready_within_s
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step
from tasks.terraform.infrastructure import Outputs

LOOK_EVERY_S = 2.0
INGRESS_CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
COMPILED = "compiled"
"""Prefix in the stack's bucket that workers may write to (terraform/models.tf)."""


class NoRedis(Permanent):
    """GCS fault tolerance is on, and there is no Redis for it."""


class NoController(Permanent):
    """Nothing in the cluster makes load balancers."""


class NotServing(Transient):
    """The service is not in its steady state."""


def fault_tolerant(service: Service, redis: Redis | None) -> bool:
    """Whether Ray's state is kept in that Redis.

    Raises:
        NoRedis: it must be, and there is none.
    """
    if service.gcs_fault_tolerance and redis is None:
        raise NoRedis(
            "gcs_fault_tolerance is on and there is no Redis: set enable_gcs_ha of the infrastructure, or give the target a redis"
        )
    return redis is not None and service.gcs_fault_tolerance is not False


def render(
    service: Service,
    engine: Engine,
    images: ImageRefs,
    redis: Redis | None,
    hf_token: SecretStr | None = None,
    artifacts: str = "",
) -> list[Object]:
    """Render all objects of the service in its namespace, in the order to apply them. Some are Secrets: never log them.

    Args:
        service: The service.
        engine: Its engine.
        images: Images of its pods.
        redis: Redis for GCS fault tolerance; None: there is none.
        hf_token: Token with which workers fetch a model of the hub.
        artifacts: Place in S3 of what is compiled ahead. Empty: nothing is.
    """
    namespace = {"namespace": service.namespace}
    values = {**namespace, "service_name": service.name, "head_image": images.head, "workers": service.workers}
    (ray_service,) = manifests.load("rayservice", values)
    for fragment in overlays(engine, images.worker, service.model, service.revision):
        ray_service = manifests.merge(ray_service, fragment)
    if service.workers_per_node > 1:
        (fragment,) = manifests.load("shared-nodes", {"nodes": service.nodes})
        ray_service = manifests.merge(ray_service, fragment)
    if artifacts:
        (fragment,) = manifests.load("artifacts", {"artifacts": artifacts})
        ray_service = manifests.merge(ray_service, fragment)
    if service.scaling is not None:
        scaling = {**service.scaling.model_dump(), "ongoing_requests": ongoing_requests(service.scaling, engine, service.model)}
        (fragment,) = manifests.load("autoscaling", {"workers": service.workers, **scaling})
        ray_service = manifests.merge(ray_service, fragment)
    fetched = checkpoint(engine, service.model, service.revision)
    objects = manifests.load("workers-account", namespace) if fetched or artifacts else []
    if redis is not None and fault_tolerant(service, redis):
        objects += manifests.load(
            "redis", {**namespace, "redis_auth_token": redis.auth_token.get_secret_value(), "redis_ca_pem": redis.ca_pem}
        )
        (fragment,) = manifests.load("gcs-fault-tolerance", {"redis_url": redis.url, "redis_ca_file": redis.ca_file})
        ray_service = manifests.merge(ray_service, fragment)
    if hf_token is not None:
        objects += manifests.load("hf-token", {**namespace, "hf_token": hf_token.get_secret_value()})
    if service.ingress is not None:
        values = {**namespace, "service_name": service.name, "serve_service": service.subject.serve_service}
        given = {"certificate_arn": service.ingress.certificate_arn, "inbound_cidrs": service.ingress.inbound}
        objects += manifests.load("ingress", {**values, **given, "scheme": "internet-facing" if service.ingress.public else "internal"})
    objects += manifests.load("disruption", {**namespace, "workers_min_available": max(1, service.workers - service.workers_per_node)})
    return [*objects, manifests.with_text_serve_config(ray_service)]


def steady_for(service: Service) -> SteadyState:
    """The steady state of a service of this size: a replica of every deployment on every worker."""
    return SteadyState(min_endpoints=service.workers, min_replicas=service.workers, min_nodes=service.nodes)


def check_steady(observer: Observer, service: Service) -> Snapshot | Pending:
    """Take a snapshot; returns it if the service is in its steady state, else what is missing."""
    ray_service = observer.ray_service()
    if ray_service is None:
        return Pending("there is no RayService", 0)
    snapshot = observer.take_snapshot()
    reasons = steady_state.not_steady(snapshot, steady_for(service))
    if not ray_objects.settled(ray_service):
        reasons.append("the operator has not observed the newest specification")
    if not reasons:
        return snapshot
    troubles = pod_problems.troubles(observer.pods())
    if snapshot.conditions.get("UpgradeInProgress") and any("Unschedulable" in trouble for trouble in troubles):
        workers = service.workers
        reasons.append(
            f"a second Ray cluster is to take over, and its {workers} workers need inf2 nodes beside those that serve: Karpenter launches "
            f"them, a managed group must have {2 * service.nodes} (inf2_nodes.count)"
        )
    return Pending("; ".join([*troubles, *reasons]), _percent(snapshot, service.workers))


def _percent(snapshot: Snapshot, workers: int) -> float:
    """Progress in percent; a fifth each for: head pod exists, head ready, workers ready, endpoints, and the application running."""
    parts = (
        float(snapshot.head is not None),
        float(snapshot.head is not None and snapshot.head.ready),
        sum(w.ready for w in snapshot.workers) / workers,
        len(snapshot.endpoints) / workers,
        float(snapshot.app_status == "RUNNING"),
    )
    return 99 * sum(min(1.0, part) for part in parts) / len(parts)


def wait_until_serving(api: Api, service: Service, within_s: float, on_pending: Callable[[Pending], None]) -> Snapshot:
    """Wait until the service is in its steady state; returns the snapshot.

    Raises:
        TimedOut: not within the time; the message has the pods that are not ready, the problems of the nodes that they wait for, and
            Kubernetes' warnings.
    """
    with Observer(api, service.subject) as observer:

        def probe() -> Snapshot | Pending:
            found = check_steady(observer, service)
            if isinstance(found, Pending) and "Unschedulable" in found.seen and (errors := karpenter.capacity_errors(api)):
                return Pending(f"AWS has no capacity: {errors[-1]}; {found.seen}", found.percent)
            return found

        try:
            return Until(f"RayService {service.namespace}/{service.name} to serve", probe, within_s, LOOK_EVERY_S, on_pending).wait()
        except TimedOut as error:
            more = ""
            with contextlib.suppress(PipelineError):  # the timeout is the error to report
                more += _node_problems(api) if "Unschedulable" in str(error) else ""
                more += _warnings(api, service.namespace)
            raise TimedOut(f"{error}{more}") from error


def _node_problems(api: Api) -> str:
    """Problems of inf2 nodes and of NodeClaims, one line each."""
    bare = neuron.without_chip(node_labels.inf2(api))
    plugin = neuron.troubles(api) if bare else []
    lines = [*(f"{name} offers no {neuron.CHIP}" for name in bare), *plugin, *karpenter.unready_claims(api)]
    return "".join(f"\n  {line}" for line in lines)


def _warnings(api: Api, namespace: str) -> str:
    found = api.items(f"/api/v1/namespaces/{namespace}/events", fieldSelector="type=Warning")
    found.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    lines = {
        f"\n  {e['involvedObject'].get('name', '')}: {e.get('reason', '')} {' '.join(e.get('message', '').split())[:200]}": None
        for e in found
    }
    return "\nKubernetes warns:" + "".join(list(lines)[-6:]) if lines else ""


def remove(api: Api, service: Service, within_s: float, on_pending: Callable[[Pending], None]) -> None:
    """Remove the RayService, its pods and its state in Redis. Other Ray clusters of the namespace stay.

    Raises:
        TimedOut: they were not removed within the time.
    """
    clusters = set(_clusters(api, service))
    with Observer(api, service.subject) as observer:

        def pods() -> list[str]:
            return [p["metadata"]["name"] for p in observer.pods() if p["metadata"]["labels"].get(ray_objects.CLUSTER) in clusters]

        def probe() -> bool | Pending:
            ray_service, found = observer.ray_service(), _clusters(api, service)
            clusters.update(found)
            left = [*(["RayService"] if ray_service else []), *(f"RayCluster {name}" for name in found), *pods()]
            return Pending(f"still there: {', '.join(left)}") if left else True

        api.delete(f"{_collection(service)}/{service.name}")
        ownership.remove(api, ingress_path(service))
        # At once: they would drain as long as a stream may take, and the streams are not needed any more.
        for name in pods():
            api.delete(f"/api/v1/namespaces/{service.namespace}/pods/{name}", grace_s=0)
        Until(f"RayService {service.namespace}/{service.name} to go", probe, within_s, LOOK_EVERY_S, on_pending).wait()


def remove_companions(api: Api, service: Service) -> None:
    """Remove what was applied together with the RayService, unless another service of this pipeline in the namespace uses it."""
    if any(map(ownership.labelled, api.items(_collection(service)))):
        return
    inside = f"namespaces/{service.namespace}"
    for name in ("redis-auth", "hf-token"):
        ownership.remove(api, f"/api/v1/{inside}/secrets/{name}")
    api_key.remove(api, service.namespace)
    ray_token.remove(api, service.namespace)
    ownership.remove(api, f"/api/v1/{inside}/configmaps/redis-ca")
    ownership.remove(api, f"/apis/policy/v1/{inside}/poddisruptionbudgets/workers")
    ownership.remove(api, f"/api/v1/{inside}/serviceaccounts/workers")
    for name in ("ray", "model"):
        ownership.remove(api, f"/apis/networking.k8s.io/v1/{inside}/networkpolicies/{name}")


def others(api: Api, service: Service) -> list[str]:
    """Names of the other RayServices in its namespace."""
    return [name for obj in api.items(_collection(service)) if (name := str(obj["metadata"]["name"])) != service.name]


def _clusters(api: Api, service: Service) -> list[str]:
    """Names of the RayClusters that KubeRay created for the service."""
    selector = f"ray.io/originated-from-cr-name={service.name},ray.io/originated-from-crd=RayService"
    found = api.items(f"/apis/ray.io/v1/namespaces/{service.namespace}/rayclusters", labelSelector=selector)
    return [str(obj["metadata"]["name"]) for obj in found]


def _collection(service: Service) -> str:
    return f"/apis/ray.io/v1/namespaces/{service.namespace}/rayservices"


def ingress_path(service: Service) -> str:
    """Path of the service's Ingress."""
    return f"/apis/networking.k8s.io/v1/namespaces/{service.namespace}/ingresses/{service.name}"


def require_controller(api: Api, service: Service) -> None:
    """Return if the service has no way in from outside, or the cluster what makes it.

    Raises:
        NoController: it has not.
    """
    if service.ingress is not None and api.find(f"{INGRESS_CLASSES}/alb") is None:
        raise NoController(
            "service.ingress needs the AWS Load Balancer Controller, and the cluster has no IngressClass `alb`: install it (docs/aws.md)"
        )


def place_of_artifacts(site: Site, service: Service) -> str:
    """Place in S3 of what is compiled ahead; empty: nothing is."""
    if not site.block.provisioned or not compiles(service, site.block.engine_of(service)):
        return ""
    return f"s3://{state_bucket(site.block, site.infrastructure.name)}/{COMPILED}"


@step("check way in", deadline_s=60)
def check_way_in(site: Site, service: Service) -> None:
    """Check that the cluster has what makes the service's way in from outside. Raises what `require_controller` does."""
    require_controller(site.api(), service)


@step("apply service", deadline_s=300)
def apply_service(site: Site, service: Service, images: ImageRefs, outputs: Outputs | None) -> bool:
    """Apply the RayService and the objects that it needs; returns whether it has GCS fault tolerance."""
    api, target, redis = site.api(), site.block, find_redis(site, outputs)
    ownership.ensure_namespace(api, service.namespace)
    api_key.put(api, service.namespace, target.api_key)
    ray_token.ensure(api, service.namespace)
    if service.ingress is None:
        ownership.remove(api, ingress_path(service))
    control_plane = outputs.control_plane_cidrs if outputs else ()
    if control_plane:
        blocks = [{"ipBlock": {"cidr": cidr}} for cidr in control_plane]
        api.apply_all(manifests.load("network", {"namespace": service.namespace, "control_plane": blocks}))
    artifacts = place_of_artifacts(site, service)
    for message in api.apply_all(render(service, target.engine_of(service), images, redis, target.hf_token, artifacts)):
        get_run_logger().warning("took over fields that another field manager had changed: %s", message)
    return fault_tolerant(service, redis)


@step("wait for service", deadline_s=7300)
def wait_for_service(site: Site, service: Service) -> Snapshot:
    """Wait for the steady state: RayService Ready, application running, a replica on every node, a right answer."""
    progress = Progress("service-ready")
    started = time.monotonic()
    snapshot = wait_until_serving(site.api(), service, ready_within_s(service, site.block.engine_of(service)), progress.show_pending)
    progress.show(100, f"serving after {time.monotonic() - started:.0f} s")
    outside = address_outside(site.api(), service) if service.ingress else ""
    create_markdown_artifact(key="service", markdown=_described(snapshot, service, outside), description="The service")
    return snapshot


@step("check service", deadline_s=120, retries=5)
def check_service(site: Site, service: Service) -> Snapshot:
    """Check that the service is in its steady state now, without waiting beyond the task's retries.

    Raises:
        NotServing: it is not; the message has the reasons.
    """
    with Observer(site.api(), service.subject) as observer:
        found = check_steady(observer, service)
    if isinstance(found, Pending):
        raise NotServing(f"{service.namespace}/{service.name}: {found.seen}")
    return found


def address_outside(api: Api, service: Service) -> str:
    """Name of the service's load balancer; empty: AWS has not made it yet."""
    found = (api.find(ingress_path(service)) or {}).get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    return str(found[0].get("hostname", ""))


def _described(snapshot: Snapshot, service: Service, outside: str = "") -> str:
    rows = [
        ("answers at", f"`{service.subject.url}/v1` (OpenAI's API) in the cluster"),
        *([("from outside", f"`https://{outside}/v1`, by a name of its certificate that points there")] if outside else []),
        ("head", snapshot.head.pod if snapshot.head else "none"),
    ]
    rows += [("worker", f"{w.pod} on {w.node}") for w in snapshot.workers]
    rows += [("state of Ray kept in Redis", "yes" if snapshot.gcs_storage else "**no**: the loss of the head will lose requests")]
    return "## Service\n\n| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows)
