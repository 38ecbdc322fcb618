"""The rules: what each looks at, why it matters, where that was learnt, and the YAML that repairs it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import yaml

from drills.lint.living import LOOPBACK, NAMESPACE_ANNOTATION, Group, Living, Object, storage_hosts
from drills.redact import clean

HEAD_PATIENCE_S = 60
"""Seconds for which a head tries to reach its storage, by Ray's default. Workers must outlast it and the restart that follows."""

_VERSION = re.compile(r"\d+\.\d+\.\d+")

DRAIN_S = 30
"""Seconds for which a Ray node that gets SIGTERM drains, by default."""

FEW = 5
"""Serve's default for the requests that a replica takes at once. A stream counts for its whole duration."""

SHORTEST_TIME_OUT_S = 60
"""Seconds below which a time-out of Serve is taken to be shorter than some answers."""

PERSISTENT = ("persistentVolumeClaim", "ephemeral", "csi", "hostPath", "nfs", "local")
"""Kinds of volumes that are there for the next pod, too."""

TAKEOVER_S = 30
"""Seconds after which a new Serve controller gives a replica up, by default."""

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"


NEEDED = {"pods": "pods", "budgets": "budgets", "karpenter": "karpenter", "redis": "the pods of Redis"}
"""The words for what rules need."""


class Severity(StrEnum):
    """How bad a broken rule is."""

    BREAKS = "breaks"
    """The loss of the head, or of a worker, loses requests."""
    RISKS = "risks"
    """It does so under some conditions, or leaves the service without redundancy."""
    HINT = "hint"
    """It survives, but less well than it could."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a service needs to survive."""

    name: str
    severity: Severity
    why: str
    learnt_from: str
    """An upstream thread or file, or "measured": by drills of this project."""
    look: Callable[[Living], str]
    """Returns what was found that breaks the rule; empty when nothing does. Those of one line stand in the table."""
    remedy: str
    """YAML below a RayService's `spec`, or a sentence."""
    needs: Literal["", "pods", "budgets", "karpenter", "redis"] = ""
    """What must have been read besides the RayService for the rule to be checked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule, and what was found."""

    rule: Rule
    found: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of all rules."""

    findings: tuple[Finding, ...]
    """The broken rules, the worst first."""
    unchecked: dict[str, str]
    """The rules that could not be checked, by name, and why."""


def check(living: Living) -> Checked:
    """Check every rule. A rule that lacks what it needs, or cannot read what is written, is unchecked: neither kept nor broken."""
    broken, unchecked = [], {}
    for rule in RULES:
        if rule.needs and getattr(living, rule.needs) is None:
            unchecked[rule.name] = f"{NEEDED[rule.needs]} were not read"
            continue
        try:
            found = rule.look(living)
        except (ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError) as error:
            # PyYAML's text quotes the lines around the problem, which may hold anything.
            words = str(getattr(error, "problem", None) or error)
            unchecked[rule.name] = f"the RayService could not be understood: {clean(' '.join(words.split()))}"
            continue
        if found:
            broken.append(Finding(rule, clean(found)))
    return Checked(tuple(sorted(broken, key=lambda finding: list(Severity).index(finding.rule.severity))), unchecked)


def _plain_redis(living: Living) -> str:
    if not living.on_redis:
        return ""
    addresses = str((living.gcs or {}).get("redisAddress", "")).split(",")
    return ", ".join(address for address in addresses if address and not address.startswith("rediss://"))


def _open_password(living: Living) -> str:
    password = ((living.gcs or {}).get("redisPassword") or {}).get("value") or living.head.variable("REDIS_PASSWORD")
    return "Redis's password stands in the RayService itself" if password else ""


def _shared_namespace(living: Living) -> str:
    named = (living.gcs or {}).get("externalStorageNamespace") or living.annotations.get(NAMESPACE_ANNOTATION)
    return f"externalStorageNamespace: {named}" if named and living.on_redis else ""


def _working_head(living: Living) -> str:
    cpus = living.head.parameters.get("num-cpus")
    if str(cpus) != "0":
        return f"num-cpus of the head: {cpus if cpus is not None else 'not set'}"
    # A head without CPUs takes what asks for none.
    return ", ".join(f"{d.path} fits on it" for d in living.deployments if d.wants is not None and living.head.carries(d.wants))


def _unspread(living: Living) -> str:
    if living.fewest_workers < 2:
        return ""
    several = [d for d in living.deployments if d.fewest is None or d.fewest > 1]
    # Serve refuses the option where replicas are placed by bundles.
    return ", ".join(d.path for d in several if not {"max_replicas_per_node", "placement_group_bundles"} & set(d.options))


def _on_one_node(living: Living) -> str:
    nodes = [pod["spec"]["nodeName"] for pod in living.worker_pods if pod["spec"].get("nodeName")]
    return f"{len(nodes)} workers on node {nodes[0]}" if len(nodes) > 1 and len(set(nodes)) == 1 else ""


def _impatient(living: Living) -> str:
    # KubeRay sets 600 s itself where fault tolerance is on and nothing is written.
    written = {group.name: group.head_patience for group in living.workers}
    # The head's system-config holds for all nodes.
    if found := re.search(r"gcs_rpc_server_reconnect_timeout_s\W+(\d+)", str(living.head.parameters.get("system-config") or "")):
        written["system-config"] = found[1]
    return ", ".join(f"{name}: {s} s" for name, s in written.items() if s and float(s) <= 2 * HEAD_PATIENCE_S)


def _queues_streams(living: Living) -> str:
    written = {d.path: d.options.get("max_ongoing_requests") for d in living.deployments}
    return ", ".join(path if n is None else f"{path}: {n}" for path, n in written.items() if n is None or int(n) <= FEW)


def _cut_short(living: Living) -> str:
    """A pod that is killed before its replicas have ended, or replicas before their node has been drained."""
    longest = max((float(d.options.get("graceful_shutdown_timeout_s", 20)) for d in living.deployments), default=20)
    return ", ".join(found for group in living.workers if (found := _short(group, longest)))


def _short(group: Group, longest: float) -> str:
    drain = float(group.variable("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S") or DRAIN_S)
    answer = group.variable("LEEWARD_DEADLINE_S")
    if answer and float(answer) > longest:
        return f"{group.name}: an answer may take {answer} s, a replica has {longest:g} s to end"
    if drain < longest:
        return f"{group.name}: a node drains for {drain:g} s, a replica has {longest:g} s to end"
    if group.grace_s < drain:
        return f"{group.name}: a pod has {group.grace_s:g} s to end, its node drains for {drain:g} s"
    return ""


def _lying_readiness(living: Living) -> str:
    """Probes of workers that were written by hand and do not ask the proxy; KubeRay's own do."""
    probes = {group.name: group.container.get("readinessProbe") for group in living.workers}
    return ", ".join(name for name, probe in probes.items() if probe and not _asks_proxy(living, probe))


def _asks_proxy(living: Living, probe: Object) -> bool:
    words = json.dumps(probe)
    return "/-/" in words or '"serve"' in words or re.search(rf"\b{living.http_options.get('port', 8000)}\b", words) is not None


def _impatient_proxy(living: Living) -> str:
    limit = living.http_options.get("request_timeout_s")
    return f"request_timeout_s: {limit}" if limit and float(limit) < SHORTEST_TIME_OUT_S else ""


def _blocked_drain(living: Living) -> str:
    """PodDisruptionBudgets that never let a worker go."""
    found = []
    for budget in living.budgets or ():
        covered = [pod for pod in living.worker_pods if _covers(budget, pod)]
        most, least = budget["spec"].get("maxUnavailable"), budget["spec"].get("minAvailable")
        all_of_them = least is not None and (str(least) == "100%" or (str(least).isdigit() and int(least) >= len(covered)))
        if covered and (str(most) in ("0", "0%") or all_of_them):
            found.append(budget.get("metadata", {}).get("name", "a budget"))
    return ", ".join(found)


def _forgetful_redis(living: Living) -> str:
    """Redis pods that come back empty: without another one that has the data, and without a volume that the next pod finds."""
    if len(living.redis or ()) != 1:
        return ""
    (pod,) = living.redis or ()
    name = pod["metadata"]["name"]
    if set(storage_hosts(living)) & set(LOOPBACK):
        return f"it runs in the head's own pod: {name}"
    kept = any(kind in volume for volume in pod["spec"].get("volumes") or () for kind in PERSISTENT)
    return "" if kept else f"{name} keeps its data in the pod itself"


def _single_redis(living: Living) -> str:
    if _forgetful_redis(living) or len(living.redis or ()) != 1:  # the former is worse, and has the same remedy
        return ""
    return ", ".join(f"only {pod['metadata']['name']}" for pod in living.redis or ())


def _moving_address(living: Living) -> str:
    if living.head_service is not None:
        return "the head's Service is headless" if living.head_service["spec"].get("clusterIP") == "None" else ""
    written = (living.head.spec.get("headService") or {}).get("spec")
    if written is not None:
        return "headService asks for a headless Service" if written.get("clusterIP") == "None" else ""
    if living.head.spec.get("serviceType") in ("NodePort", "LoadBalancer"):
        return ""
    # The operator's ENABLE_RAY_HEAD_CLUSTER_IP_SERVICE changes it too; without the Service itself that is not seen.
    return "KubeRay makes the head's Service headless by default"


def _named_head_service(living: Living) -> str:
    name = ((living.head.spec.get("headService") or {}).get("metadata") or {}).get("name")
    return f"headService.metadata.name: {name}" if name else ""


def _slow_takeover(living: Living) -> str:
    written = living.head.variable("RAY_SERVE_SLOW_STARTUP_WARNING_S")
    if written == "":  # from a ConfigMap or a Secret, which is not read
        return ""
    takeover = float(written or TAKEOVER_S)
    return "" if takeover > 2 * HEAD_PATIENCE_S else f"{takeover:g} s on the head"


def _no_budget(living: Living) -> str:
    return ", ".join(pod["metadata"]["name"] for pod in living.worker_pods if not any(_covers(b, pod) for b in living.budgets or ()))


def _covers(budget: Object, pod: Object) -> bool:
    """Whether a PodDisruptionBudget holds for the pod, and holds anything: no selector selects nothing, an empty one everything."""
    spec, labels = budget["spec"], pod["metadata"].get("labels") or {}
    if spec.get("selector") is None or str(spec.get("minAvailable", "")) in ("0", "0%"):
        return False
    same = all(labels.get(key) == value for key, value in (spec["selector"].get("matchLabels") or {}).items())
    return same and all(_fits(rule, labels) for rule in spec["selector"].get("matchExpressions") or ())


def _fits(rule: Object, labels: Object) -> bool:
    """Whether labels fit one of a selector's matchExpressions."""
    value, values = labels.get(rule["key"]), rule.get("values") or ()
    match rule["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def _disruptable(living: Living) -> str:
    """Pods that Karpenter may take away with their node to save it, where the cluster has Karpenter."""
    if not living.karpenter:
        return ""
    bare = [pod["metadata"]["name"] for pod in living.pods or () if DO_NOT_DISRUPT not in (pod["metadata"].get("annotations") or {})]
    return ", ".join(bare)


def _moving_image(living: Living) -> str:
    images = {group.container.get("image", "") for group in living.groups}
    return ", ".join(sorted(image for image in images if "@sha256:" not in image))


def _other_ray(living: Living) -> str:
    """Images whose tag names another version of Ray than the cluster's."""
    version = str(living.cluster.get("rayVersion") or "")
    tags = {group.name: str(group.container.get("image", "")).partition("@")[0].rpartition(":")[2] for group in living.groups}
    named = {name: found[0] for name, tag in tags.items() if (found := _VERSION.findall(tag)) and "/" not in tag}
    return ", ".join(f"{name}: {found}, rayVersion: {version}" for name, found in named.items() if version and found != version)


RULES = (
    Rule(
        "GCS fault tolerance",
        Severity.BREAKS,
        "a new head knows nobody: every worker restarts, with all its streams",
        "data-on-eks#348",
        lambda living: "no external storage for the GCS" if living.gcs is None else "",
        "rayClusterConfig: {gcsFaultToleranceOptions: {redisAddress: rediss://HOST:6379, redisPassword: {valueFrom: {secretKeyRef: …}}}}",
    ),
    Rule(
        "head out of the serve Service",
        Severity.BREAKS,
        "requests that come in through the head's proxy are lost with it",
        "kuberay#2593",
        lambda living: "" if living.spec.get("excludeHeadPodFromServeSvc") is True else "excludeHeadPodFromServeSvc is not true",
        "excludeHeadPodFromServeSvc: true",
    ),
    Rule(
        "head takes no work",
        Severity.BREAKS,
        "a replica on the head is lost with it",
        "kuberay#1463",
        _working_head,
        'rayClusterConfig: {headGroupSpec: {rayStartParams: {num-cpus: "0"}}}',
    ),
    Rule(
        "the head's address stays",
        Severity.BREAKS,
        "behind a headless Service workers look for a new head at the old one's address, and answer nothing meanwhile",
        "measured",
        _moving_address,
        "rayClusterConfig: {headGroupSpec: {headService: {spec: {type: ClusterIP, publishNotReadyAddresses: true}}}}",
    ),
    Rule(
        "no name for the head Service",
        Severity.RISKS,
        "the operator refuses it, or an upgrade hangs",
        "kuberay#2433",
        _named_head_service,
        "remove headService.metadata.name",
    ),
    Rule(
        "two replicas or more of everything",
        Severity.BREAKS,
        "with one, losing its pod or node is an outage",
        "kuberay#1333",
        lambda living: ", ".join(f"{d.path}: {d.fewest}" for d in living.deployments if d.fewest is not None and d.fewest < 2),
        "in serveConfigV2, for each deployment: num_replicas: 2, or autoscaling_config: {min_replicas: 2}",
    ),
    Rule(
        "two workers or more",
        Severity.BREAKS,
        "with one, losing it or its node is an outage",
        "kuberay#1333",
        lambda living: f"at least {living.fewest_workers} in all groups together" if living.fewest_workers < 2 else "",
        "in workerGroupSpecs: replicas: 2, minReplicas: 2",
    ),
    Rule(
        "workers outlast the head",
        Severity.BREAKS,
        "workers that give up before the new head answers end with all their streams",
        "kuberay#634",
        _impatient,
        "remove RAY_gcs_rpc_server_reconnect_timeout_s from the workers (KubeRay sets 600), or set it to 600",
    ),
    Rule(
        "what runs may end",
        Severity.RISKS,
        "a pod, node or replica that is taken away in order cuts the streams that take longer than it waits",
        "ray#64181",
        _cut_short,
        "terminationGracePeriodSeconds >= RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S >= graceful_shutdown_timeout_s >= the longest answer",
    ),
    Rule(
        "replicas have time to be taken over",
        Severity.RISKS,
        "a new Serve controller kills a replica that it has not taken over within this time, although it answers",
        "ray serve/_private/deployment_state.py",
        _slow_takeover,
        'in the head\'s container: env: [{name: RAY_SERVE_SLOW_STARTUP_WARNING_S, value: "600"}]',
    ),
    Rule(
        "replicas spread over nodes",
        Severity.RISKS,
        "after a loss all may be packed on the survivor; the new worker then stays NotReady, and redundancy is gone",
        "kuberay#1333",
        _unspread,
        "in serveConfigV2, for each deployment: max_replicas_per_node: 1",
    ),
    Rule(
        "workers on several nodes",
        Severity.RISKS,
        "the loss of one node is an outage",
        "kuberay#1333",
        _on_one_node,
        "in the template of the workers: topologySpreadConstraints over kubernetes.io/hostname",
        needs="pods",
    ),
    Rule(
        "room for the requests of a lost replica",
        Severity.RISKS,
        "with so few at once (5 by default) streams wait that could run, and those that are left have no room for more",
        "measured",
        _queues_streams,
        "in serveConfigV2, for each deployment: max_ongoing_requests, as many as a replica can answer at once",
    ),
    Rule(
        "what waits is bounded",
        Severity.HINT,
        "what is too much should be refused at once, not kept until it times out",
        "measured",
        lambda living: ", ".join(d.path for d in living.deployments if int(d.options.get("max_queued_requests", -1)) < 0),
        "in serveConfigV2, for each deployment: max_queued_requests, 64 for example",
    ),
    Rule(
        "a PodDisruptionBudget for the workers",
        Severity.RISKS,
        "a node upgrade may drain all workers at once",
        "kuberay#5004",
        _no_budget,
        "a PodDisruptionBudget with spec: {maxUnavailable: 1, selector: {matchLabels: {ray.io/node-type: worker, ray.io/cluster: …}}}",
        needs="budgets",
    ),
    Rule(
        "Karpenter leaves its pods alone",
        Severity.HINT,
        "consolidation takes a node away from under a model that serves",
        "kuberay#2662",
        _disruptable,
        "in the metadata of the head's and the workers' template: annotations: {karpenter.sh/do-not-disrupt: \"true\"}",
        needs="karpenter",
    ),
    Rule(
        "a drain can go on",
        Severity.RISKS,
        "a budget that never lets a worker go stops every upgrade of a node until it is forced, and then nothing is spared",
        "kuberay#5004",
        _blocked_drain,
        "in the PodDisruptionBudget: maxUnavailable: 1, and no minAvailable",
        needs="budgets",
    ),
    Rule(
        "readiness asks the proxy",
        Severity.RISKS,
        "a worker whose proxy is gone stays an endpoint, and what is sent there is refused",
        "measured",
        _lying_readiness,
        "remove readinessProbe from the workers (KubeRay sets one), or: readinessProbe: {httpGet: {path: /-/healthz, port: 8000}}",
    ),
    Rule(
        "answers have their time",
        Severity.RISKS,
        "Serve ends every answer that takes longer, streams included",
        "ray serve/config.py HTTPOptions",
        _impatient_proxy,
        "in serveConfigV2: remove request_timeout_s from http_options, or make it longer than the longest answer",
    ),
    Rule(
        "Redis keeps what it has",
        Severity.RISKS,
        "a Redis that comes back empty is none: the next head knows nobody, and every worker restarts",
        "ray#39787",
        _forgetful_redis,
        "a Redis with a volume (and appendonly yes), or with a replica, in a pod of its own",
        needs="redis",
    ),
    Rule(
        "a second Redis",
        Severity.RISKS,
        "while the only one is away no head can start",
        "data-on-eks#348",
        _single_redis,
        "a Redis with a replica and a failover, of the cloud for example",
        needs="redis",
    ),
    Rule(
        "Redis over TLS",
        Severity.RISKS,
        "whoever reaches the address reads and changes what Ray knows",
        "kuberay#1640",
        _plain_redis,
        "in gcsFaultToleranceOptions: redisAddress: rediss://HOST:6379; and RAY_REDIS_CA_CERT in all containers",
    ),
    Rule(
        "Redis's password from a Secret",
        Severity.RISKS,
        "whoever may read the RayService has it",
        "kuberay#1640",
        _open_password,
        "in gcsFaultToleranceOptions: redisPassword: {valueFrom: {secretKeyRef: {name: SECRET, key: KEY}}}",
    ),
    Rule(
        "a storage namespace for each cluster",
        Severity.RISKS,
        "in an upgrade the new cluster reads the state of the old one",
        "kuberay#1296",
        _shared_namespace,
        "remove externalStorageNamespace: KubeRay makes one for each cluster",
    ),
    Rule(
        "deprecated thresholds are not relied on",
        Severity.HINT,
        "the operator ignores them",
        "kuberay rayservice_types.go",
        lambda living: ", ".join(sorted({"serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"} & set(living.spec))),
        "remove them",
    ),
    Rule(
        "one Ray everywhere",
        Severity.RISKS,
        "Ray refuses to connect different versions",
        "ray check_version_info",
        _other_ray,
        "make rayVersion that of the images",
    ),
    Rule(
        "images by digest",
        Severity.HINT,
        "a new head may come with another image than the workers'",
        "data-on-eks#604",
        _moving_image,
        "name the images as REPOSITORY@sha256:DIGEST",
    ),
)
