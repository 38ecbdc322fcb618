"""The rules: what each looks at, why it matters, where that was learnt, and the YAML that repairs it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from drills.lint.living import LOOPBACK, NAMESPACE_ANNOTATION, Group, Living, Object, storage_hosts
from drills.lint.texts import number
from drills.redact import clean

HEAD_PATIENCE_S = 60
"""Seconds for which a head tries to reach its storage, by Ray's default. Workers must outlast it and the restart that follows."""

_RAY = re.compile(r"(?:^|/)ray(?:-ml|-llm)?:(\d+\.\d+\.\d+)|\bray-?(\d+\.\d+\.\d+)")
"""An image whose name says its version of Ray; other versions in a tag are of what else is in it."""

DRAIN_S = 30
"""Seconds for which a Ray node that gets SIGTERM drains, by default."""

STOP_S = 16
"""Seconds after which `ray stop` kills what has not ended, by default."""

FEW = 5
"""Serve's default for the requests that a replica takes at once. A stream counts for its whole duration."""

SHORTEST_TIME_OUT_S = 60
"""Seconds below which a time-out of Serve is taken to be shorter than some answers."""

PERSISTENT = ("persistentVolumeClaim", "ephemeral", "csi", "hostPath", "nfs", "local")
"""Kinds of volumes that are there for the next pod, too."""

TAKEOVER_S = 30
"""Seconds after which a new Serve controller gives a replica up, by default."""

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"


NEEDED = {
    "pods": "pods were not read",
    "budgets": "budgets were not read",
    "karpenter": "whether the cluster has Karpenter was not asked",
    "redis": "the pods of Redis were not read",
}
"""The words for when what a rule needs was not read."""


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
    look: Callable[[Living], str | None]
    """Returns what was found that breaks the rule, else None."""
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
            unchecked[rule.name] = NEEDED[rule.needs]
            continue
        try:
            found = rule.look(living)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            unchecked[rule.name] = f"the RayService could not be understood: {_line(str(error))}"
            continue
        if found is not None:
            broken.append(Finding(rule, _line(found)))
    return Checked(tuple(sorted(broken, key=lambda finding: list(Severity).index(finding.rule.severity))), unchecked)


def _line(words: str) -> str:
    """The words on one line, without a secret and without what a terminal would obey."""
    return str(clean("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(words.split()))))


def _listed(names: Collection[str]) -> str | None:
    """The names in one line, each once, or None where there are none."""
    return ", ".join(dict.fromkeys(names)) or None


def _no_storage(living: Living) -> str | None:
    if living.gcs is not None:
        return None
    alone = living.head.variable("RAY_REDIS_ADDRESS") is not None
    return "RAY_REDIS_ADDRESS alone turns nothing on, KubeRay refuses it" if alone else "no external storage for the GCS"


def _plain_redis(living: Living) -> str | None:
    if not living.on_redis:
        return None
    addresses = str((living.gcs or {}).get("redisAddress", "")).split(",")
    return _listed([address for address in addresses if address and not address.startswith("rediss://")])


def _open_password(living: Living) -> str | None:
    parameter = str(living.head.parameters.get("redis-password") or "")
    written = ((living.gcs or {}).get("redisPassword") or {}).get("value") or living.head.variable("REDIS_PASSWORD")
    # A parameter with $ names a variable, which is looked at by itself.
    return "Redis's password stands in the RayService itself" if written or (parameter and "$" not in parameter) else None


def _shared_namespace(living: Living) -> str | None:
    named = (living.gcs or {}).get("externalStorageNamespace") or living.annotations.get(NAMESPACE_ANNOTATION)
    return f"externalStorageNamespace: {named}" if named and living.on_redis else None


def _working_head(living: Living) -> str | None:
    cpus = living.head.cpus
    if cpus is None or number(cpus) != 0:
        return f"num-cpus of the head: {cpus if cpus is not None else 'not set'}"
    # A head without CPUs takes what asks for none.
    return _listed([f"{d.path} fits on it" for d in living.deployments if d.wants is not None and living.head.carries(d.wants)])


def _head_serves(living: Living) -> str | None:
    return None if living.spec.get("excludeHeadPodFromServeSvc") is True else "excludeHeadPodFromServeSvc is not true"


def _single(living: Living) -> str | None:
    return _listed([f"{d.path}: {d.fewest}" for d in living.deployments if d.fewest is not None and d.fewest < 2])


def _unspread(living: Living) -> str | None:
    if living.fewest_workers < 2:
        return None
    several = [d for d in living.deployments if d.fewest is None or d.fewest > 1]
    # Serve refuses the option where replicas are placed by bundles.
    return _listed([d.path for d in several if not {"max_replicas_per_node", "placement_group_bundles"} & set(d.options)])


def _on_one_node(living: Living) -> str | None:
    nodes = [pod["spec"]["nodeName"] for pod in living.worker_pods if pod["spec"].get("nodeName")]
    return f"{len(nodes)} workers on node {nodes[0]}" if len(nodes) > 1 and len(set(nodes)) == 1 else None


def _few_workers(living: Living) -> str | None:
    if living.fewest_workers >= 2:
        return None
    deployment, groups = living.scarcest
    hosts = {group.name: f" of {n} hosts each" for group in living.workers if (n := group.spec.get("numOfHosts") or 1) != 1}
    counts = ", ".join(f"{name}: {count}{hosts.get(name, '')}" for name, count in groups.items())
    missing = "no group has what its replicas ask for" if living.workers else "there is no group of workers"
    return f"at least {living.fewest_workers}{' for ' * bool(deployment)}{deployment} ({counts or missing})"


def _impatient(living: Living) -> str | None:
    # KubeRay sets 600 s itself where fault tolerance is on and nothing is written.
    written = {group.name: group.head_patience for group in living.workers}
    # The head's system-config holds for all nodes.
    if found := re.search(r"gcs_rpc_server_reconnect_timeout_s\W+(\d+)", str(living.head.parameters.get("system-config") or "")):
        written["system-config"] = found[1]
    return _listed([f"{name}: {s} s" for name, s in written.items() if s and number(s) <= 2 * HEAD_PATIENCE_S])


def _queues_streams(living: Living) -> str | None:
    old = living.before(2, 32)  # its default was 100, and its name for it another one
    names = ("max_ongoing_requests", *(["max_concurrent_queries"] if living.before(2, 33) else []))
    written = {d.path: next((d.options[name] for name in names if name in d.options), None) for d in living.deployments}
    few = [f"{path}: {n}" for path, n in written.items() if n is not None and number(n) <= FEW]
    silent = [d for d in living.deployments if written[d.path] is None and not old]
    # Serve ignores what it does not know there.
    lost = [d.path for d in silent if {"max_ongoing_requests", "max_concurrent_queries"} & set(d.options.get("autoscaling_config") or ())]
    missing = [d.path for d in silent if d.path not in lost]
    found = {"not in serveConfigV2 for": missing, "in autoscaling_config, where it does nothing, for": lost}
    return _listed([*few, *(f"{words} {', '.join(paths)}" for words, paths in found.items() if paths)])


def _unbounded(living: Living) -> str | None:
    if living.before(2, 10):  # which has no such option
        return None
    return _listed([d.path for d in living.deployments if number(d.options.get("max_queued_requests", -1)) < 0])


def _cut_short(living: Living) -> str | None:
    """A pod that is killed before its replicas have ended, or replicas before their node has been drained."""
    longest = max((number(d.options.get("graceful_shutdown_timeout_s", 20)) for d in living.deployments), default=20)
    return _listed([found for group in living.workers if (found := _short(group, longest))])


def _short(group: Group, longest: float) -> str | None:
    drain = number(group.variable("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S") or DRAIN_S)
    answer = group.variable("LEEWARD_DEADLINE_S")
    if answer and number(answer) > longest:
        return f"{group.name}: an answer may take {answer} s, a replica has {longest:g} s to end"
    if drain < longest:
        return f"{group.name}: a node drains for {drain:g} s, a replica has {longest:g} s to end"
    if (killed := _stops_after(group)) is not None and killed < longest:
        return f"{group.name}: ray stop in its preStop hook ends Ray within {killed:g} s, a replica has {longest:g} s to end"
    if group.grace_s < drain:
        return f"{group.name}: a pod has {group.grace_s:g} s to end, its node drains for {drain:g} s"
    return None


def _stops_after(group: Group) -> float | None:
    """Seconds after which a preStop hook of the Ray container kills Ray by `ray stop`; None where it does not call that."""
    hook = (group.container.get("lifecycle") or {}).get("preStop") or {}
    command = " ".join(map(str, (hook.get("exec") or {}).get("command") or ()))
    called = re.search(r"\bray stop\b(.*)", command)
    if called is None or re.search(r"\bsleep\b", command[: called.start()]):  # how long it waits is not judged
        return None
    if re.search(r"\s(-f|--force)\b", called[1]):
        return 0
    written = re.search(r"(?:-g|--grace-period)[ =]?(\d+)", called[1])
    return number(written[1]) if written else STOP_S


def _few_proxies(living: Living) -> str | None:
    where = living.serve_config.get("proxy_location")
    return f"proxy_location: {where}" if where not in (None, "EveryNode") else None


def _lying_readiness(living: Living) -> str | None:
    """Probes of workers that were written by hand and do not ask the proxy; KubeRay's own do."""
    probes = {group.name: group.container.get("readinessProbe") for group in living.workers}
    return _listed([name for name, probe in probes.items() if probe and not _asks_proxy(living, probe)])


def _asks_proxy(living: Living, probe: Object) -> bool:
    words = json.dumps(probe)
    return "/-/" in words or '"serve"' in words or re.search(rf"\b{living.http_options.get('port', 8000)}\b", words) is not None


def _impatient_proxy(living: Living) -> str | None:
    limit = living.http_options.get("request_timeout_s")
    return f"request_timeout_s: {limit}" if limit and number(limit) < SHORTEST_TIME_OUT_S else None


def _blocked_drain(living: Living) -> str | None:
    """PodDisruptionBudgets that never let a pod go, a worker or the head."""
    found = []
    for budget in living.budgets or ():
        covered = [pod for pod in living.ray_pods if covers(budget, pod)]
        if covered and (why := _never(budget["spec"], len(covered))):
            found.append(f"{budget.get('metadata', {}).get('name', 'a budget')} ({why})")
    return _listed(found)


def _never(spec: Object, pods: int) -> str | None:
    """Why a budget for this many pods lets none go; None if it does. Kubernetes finds out how many there should be from their owner, and
    a RayCluster, which has no scale, does not tell: then it allows nothing."""
    least = spec.get("minAvailable")
    if spec.get("maxUnavailable") is not None:
        return "it has maxUnavailable, and Kubernetes cannot tell how many pods a RayCluster should have"
    if str(least).endswith("%"):
        return "it has a percentage, and Kubernetes cannot tell how many pods a RayCluster should have"
    return f"minAvailable: {least}, and there are {pods}" if least is not None and number(least) >= pods else None


def _forgetful_redis(living: Living) -> str | None:
    """Redis pods that come back empty: without another one that has the data, and without a volume that the next pod finds."""
    if len(living.redis or ()) != 1:
        return None
    (pod,) = living.redis or ()
    name = pod["metadata"]["name"]
    if set(storage_hosts(living)) & set(LOOPBACK):
        return f"it runs in the head's own pod: {name}"
    kept = any(kind in volume for volume in pod["spec"].get("volumes") or () for kind in PERSISTENT)
    return None if kept else f"{name} keeps its data in the pod itself"


def _single_redis(living: Living) -> str | None:
    if _forgetful_redis(living) or len(living.redis or ()) != 1:  # the former is worse, and has the same remedy
        return None
    return _listed([f"only {pod['metadata']['name']}" for pod in living.redis or ()])


def _moving_address(living: Living) -> str | None:
    if living.head_service is not None:
        return "the head's Service is headless" if living.head_service["spec"].get("clusterIP") == "None" else None
    if (written := living.head.spec.get("headService")) is not None:  # KubeRay takes it as it is, whatever it has
        return "headService asks for a headless Service" if (written.get("spec") or {}).get("clusterIP") == "None" else None
    if living.head.spec.get("serviceType") in ("NodePort", "LoadBalancer"):
        return None
    # The operator's ENABLE_RAY_HEAD_CLUSTER_IP_SERVICE changes it too; without the Service itself that is not seen.
    return "KubeRay makes the head's Service headless by default"


def _named_head_service(living: Living) -> str | None:
    name = ((living.head.spec.get("headService") or {}).get("metadata") or {}).get("name")
    return f"headService.metadata.name: {name}" if name else None


def _ignored(living: Living) -> str | None:
    return _listed(sorted({"serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"} & set(living.spec)))


def _slow_takeover(living: Living) -> str | None:
    written = living.head.variable("RAY_SERVE_SLOW_STARTUP_WARNING_S")
    if written == "":  # from a ConfigMap or a Secret, which is not read
        return None
    takeover = number(written or TAKEOVER_S)
    return None if takeover > 2 * HEAD_PATIENCE_S else f"{takeover:g} s on the head"


def _no_budget(living: Living) -> str | None:
    bare = _listed([pod["metadata"]["name"] for pod in living.worker_pods if not any(covers(b, pod) for b in living.budgets or ())])
    meant = [b for b in living.budgets or () if any(wanted(b, "ray.io/"))]
    idle = [str(b.get("metadata", {}).get("name", "a budget")) for b in meant if not any(covers(b, pod) for pod in living.ray_pods)]
    return f"{bare}; none of its pods has the labels of {', '.join(idle)}" if bare and idle else bare


def wanted(budget: Object, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the labels that a budget asks for, of those whose names begin so."""
    selector = budget["spec"].get("selector") or {}
    pairs = [(key, value) for key, value in (selector.get("matchLabels") or {}).items()]
    pairs += [(rule["key"], value) for rule in selector.get("matchExpressions") or () for value in rule.get("values") or ("",)]
    return ((str(key), str(value)) for key, value in pairs if str(key).startswith(prefix))


def covers(budget: Object, pod: Object) -> bool:
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


def _disruptable(living: Living) -> str | None:
    """Pods that Karpenter may take away with their node to save it, where the cluster has Karpenter."""
    if not living.karpenter:
        return None
    bare = [pod["metadata"]["name"] for pod in living.pods or () if DO_NOT_DISRUPT not in (pod["metadata"].get("annotations") or {})]
    return _listed(bare)


def _moving_image(living: Living) -> str | None:
    images = {group.container.get("image", "") for group in living.groups}
    return _listed(sorted(image for image in images if "@sha256:" not in image))


def _other_ray(living: Living) -> str | None:
    """Images whose names say another version of Ray than the cluster's, or than each other."""
    version = str(living.cluster.get("rayVersion") or "")
    images = {group.name: _RAY.search(str(group.container.get("image", "")).partition("@")[0]) for group in living.groups}
    named = {name: str(found[1] or found[2]) for name, found in images.items() if found}
    if not version:
        return _listed([f"{name}: {found}" for name, found in named.items()]) if len(set(named.values())) > 1 else None
    other = {name: found for name, found in named.items() if not f"{found}.".startswith(f"{version}.")}
    return _listed([f"{name}: {found}, rayVersion: {version}" for name, found in other.items()])


RULES = (
    Rule(
        "GCS fault tolerance",
        Severity.BREAKS,
        "a new head knows nobody: every worker restarts, with all its streams",
        "data-on-eks#348",
        _no_storage,
        "rayClusterConfig: {gcsFaultToleranceOptions: {redisAddress: rediss://HOST:6379, redisPassword: {valueFrom: {secretKeyRef: …}}}}",
    ),
    Rule(
        "head out of the serve Service",
        Severity.BREAKS,
        "requests that come in through the head's proxy are lost with it",
        "kuberay#2593",
        _head_serves,
        "excludeHeadPodFromServeSvc: true",
    ),
    Rule(
        "a proxy on every worker",
        Severity.BREAKS,
        "without one on the workers all requests go through the head, and KubeRay's probe takes the workers for not ready",
        "kuberay#4994",
        _few_proxies,
        "in serveConfigV2: remove proxy_location, or proxy_location: EveryNode",
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
        Severity.RISKS,
        "behind a headless Service workers look for a new head at the old one's address, and may answer nothing meanwhile",
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
        _single,
        "in serveConfigV2, for each deployment: num_replicas: 2, or autoscaling_config: {min_replicas: 2}",
    ),
    Rule(
        "two workers or more",
        Severity.BREAKS,
        "with one, losing it or its node is an outage",
        "kuberay#1333",
        _few_workers,
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
        "ray#64181, kuberay#2724",
        _cut_short,
        "terminationGracePeriodSeconds >= RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S >= graceful_shutdown_timeout_s >= the longest answer, "
        "and no ray stop in a preStop hook",
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
        _unbounded,
        "in serveConfigV2, for each deployment: max_queued_requests, 64 for example",
    ),
    Rule(
        "a PodDisruptionBudget for the workers",
        Severity.RISKS,
        "a node upgrade may drain all workers at once",
        "kuberay#5004",
        _no_budget,
        "a PodDisruptionBudget with spec: {minAvailable: N, selector: {matchLabels: {KEY: VALUE}}}; N is one less than there are workers, "
        "and KEY: VALUE a label of your own in the metadata of the workers' template (the name in ray.io/cluster changes)",
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
        "a budget that never lets a pod go stops every upgrade of a node until it is forced, and then nothing is spared",
        "kuberay#5004, kuberay#2662",
        _blocked_drain,
        "in the PodDisruptionBudget: minAvailable: N, less than there are pods; no maxUnavailable, no percentage; none for the head alone",
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
        _ignored,
        "remove them",
    ),
    Rule(
        "one Ray everywhere",
        Severity.RISKS,
        "Ray refuses to connect different versions, and KubeRay takes rayVersion for theirs",
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
