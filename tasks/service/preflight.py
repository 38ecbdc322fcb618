"""Whether the configuration can survive the loss of its head: rules that are checked on the manifests, before anything runs.

A broken rule is advice, with its reason and its source. Only a drill decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from blocks.parameters import Service
from tasks.cluster.redis import find_redis
from tasks.images.publish import ImageRefs
from tasks.kubernetes.api import Object
from tasks.service.rayservice import render
from tasks.support.paths import ROOT
from tasks.support.site import Site
from tasks.support.step import step
from tasks.terraform.infrastructure import Outputs

HEAD_PATIENCE_S = 60
"""Seconds for which a head tries to reconnect (Ray's default). Workers must survive that and the restart that follows."""

LOCKED = ROOT / "serving" / "images"
"""Folder with the locked requirements of the images."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition for surviving the loss of the head."""

    name: str
    why: str
    thread: str
    """Source of the rule: an upstream thread, or "measured"."""
    holds: Callable[[Object], bool]
    """Check on the spec of a RayService."""


def _head(spec: Object) -> Object:
    return dict(spec["rayClusterConfig"]["headGroupSpec"])


def _containers(group: Object) -> list[Object]:
    return list(group["template"]["spec"]["containers"])


def _workers(spec: Object) -> list[Object]:
    return list(spec["rayClusterConfig"].get("workerGroupSpecs") or ())


def _environment(group: Object) -> dict[str, str]:
    return {e["name"]: str(e.get("value", "")) for c in _containers(group) for e in c.get("env") or ()}


def _deployments(spec: Object) -> list[dict[str, Any]]:
    config = yaml.safe_load(spec["serveConfigV2"])
    return [d for app in config.get("applications") or () for d in app.get("deployments") or ()]


def _fewest(deployment: dict[str, Any]) -> int:
    """Smallest number of replicas of a Serve deployment."""
    if scaled := deployment.get("autoscaling_config"):
        return int(scaled.get("min_replicas", 1))
    return int(deployment.get("num_replicas", 1))


def _gcs(spec: Object) -> Object:
    return dict(spec["rayClusterConfig"].get("gcsFaultToleranceOptions") or {})


def _patient(group: Object) -> bool:
    text = _environment(group).get("RAY_gcs_rpc_server_reconnect_timeout_s", "")
    return text.isdigit() and int(text) > 2 * HEAD_PATIENCE_S


def _drains(spec: Object) -> bool:
    """Whether the times of a shutdown are in order: answer ≤ replica ≤ node ≤ pod."""
    graces = [float(d.get("graceful_shutdown_timeout_s", 20)) for d in _deployments(spec)]
    return all(_in_order(group, graces) for group in _workers(spec))


def _in_order(group: Object, graces: list[float]) -> bool:
    environment = _environment(group)
    longest_answer = float(environment.get("LEEWARD_DEADLINE_S", "inf"))
    drain = float(environment.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0"))
    pod = float(group["template"]["spec"].get("terminationGracePeriodSeconds", 30))
    return longest_answer <= min(graces, default=0) <= max(graces, default=0) <= drain <= pod


def _lasting_address(spec: Object) -> bool:
    """Whether KubeRay gives the head's Service a cluster IP. ENABLE_RAY_HEAD_CLUSTER_IP_SERVICE of the operator does so too, but is not
    visible here."""
    head = _head(spec)
    service = (head.get("headService") or {}).get("spec")
    if service is not None:
        return bool(service.get("clusterIP") != "None")
    return head.get("serviceType") in ("NodePort", "LoadBalancer")


def _one_ray(spec: Object) -> bool:
    """Whether the cluster has the Ray version to which all images are locked."""
    lists = [path.read_text(encoding="utf-8") for path in LOCKED.glob("requirements-*.txt")]
    found = {line.split()[0] for text in lists for line in text.splitlines() if line.startswith("ray==")}
    return found == {f"ray=={spec['rayClusterConfig'].get('rayVersion')}"}


RULES = (
    Rule("GCS fault tolerance", "without it the head's death restarts every worker", "data-on-eks#348", lambda s: bool(_gcs(s))),
    Rule(
        "Redis over TLS",
        "a plain address is open to the VPC",
        "kuberay#1640",
        lambda s: not _gcs(s) or str(_gcs(s).get("redisAddress", "")).startswith("rediss://"),
    ),
    Rule(
        "head takes no work",
        "a replica on the head dies with it",
        "kuberay#1463",
        lambda s: str(_head(s)["rayStartParams"].get("num-cpus")) == "0",
    ),
    Rule(
        "head out of the serve service",
        "requests through its proxy die with it",
        "kuberay#2593",
        lambda s: s.get("excludeHeadPodFromServeSvc") is True,
    ),
    Rule(
        "two replicas or more of everything",
        "with one, losing its node is an outage",
        "kuberay#1333",
        lambda s: all(_fewest(d) >= 2 for d in _deployments(s)),
    ),
    Rule(
        "replicas spread over nodes",
        "packed on one, the other node stays NotReady and redundancy is gone",
        "kuberay#1333",
        lambda s: all("max_replicas_per_node" in d for d in _deployments(s)),
    ),
    Rule("workers outlast the head", "they die before the new head is there", "kuberay#634", lambda s: all(map(_patient, _workers(s)))),
    Rule(
        "max_ongoing_requests is set",
        "the default of 5 queues streams",
        "measured",
        lambda s: all("max_ongoing_requests" in d for d in _deployments(s)),
    ),
    Rule(
        "what waits is bounded",
        "what is too much must be refused, not kept until it times out",
        "measured",
        lambda s: all(int(d.get("max_queued_requests", -1)) >= 0 for d in _deployments(s)),
    ),
    Rule("workers have time to drain", "SIGTERM cuts streams that still run", "ray#64181", _drains),
    Rule(
        "the head's address stays",
        "behind KubeRay's headless Service workers look for a new head at the old one's address, and do not answer meanwhile",
        "measured",
        _lasting_address,
    ),
    Rule(
        "no name for the head service",
        "today's operator refuses it",
        "kuberay#2433",
        lambda s: "name" not in (_head(s).get("headService") or {}).get("metadata", {}),
    ),
    Rule(
        "deprecated thresholds are not relied on",
        "the operator ignores them",
        "kuberay rayservice_types.go",
        lambda s: not {"serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"} & set(s),
    ),
    Rule(
        "replicas have time to be taken over",
        "a new Serve controller kills a replica that it has not taken over within this time, although it answers",
        "ray deployment_state.py",
        lambda s: int(_environment(_head(s)).get("RAY_SERVE_SLOW_STARTUP_WARNING_S", "30")) > 2 * HEAD_PATIENCE_S,
    ),
    Rule("one Ray in all images", "Ray refuses to connect different versions", "ray check_version_info", _one_ray),
)


def findings(ray_service: Object) -> list[Rule]:
    """Return the rules that the RayService breaks."""
    return [rule for rule in RULES if not rule.holds(ray_service["spec"])]


@step("preflight", deadline_s=60)
def preflight(site: Site, service: Service, outputs: Outputs | None) -> list[str]:
    """Check the rules on the service's manifests and show them as a table; returns the names of the broken ones."""
    images = ImageRefs(head="not built yet", worker="not built yet")
    objects = render(service, site.block.engine_of(service), images, find_redis(site, outputs), site.block.hf_token)
    broken = findings(next(obj for obj in objects if obj["kind"] == "RayService"))
    table = [{"rule": r.name, "kept": "NO" if r in broken else "yes", "why": r.why, "learnt from": r.thread} for r in RULES]
    create_table_artifact(key="preflight", table=table, description=f"{len(broken)} of {len(RULES)} rules broken")
    for rule in broken:
        get_run_logger().warning("preflight: %s: %s (%s)", rule.name, rule.why, rule.thread)
    return [rule.name for rule in broken]
