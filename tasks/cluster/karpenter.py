"""Karpenter: launches nodes when pods need them. All its nodes must be removed before their cluster.

Controller, permissions and CRDs come from upstream's chart in the pinned Go module. What it may launch is in
manifests/node-pools.yaml.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import yaml
from prefect import get_run_logger

from blocks.errors import Permanent, TimedOut
from blocks.parameters import Infrastructure
from drills.kubernetes import manifests, node_labels, pod_problems
from drills.kubernetes.api import Api, Object
from drills.runner.waiting import Pending, Until
from tasks.cluster import ami, karpenter_orphans
from tasks.cluster.access import UNRESPONSIVE_FOR_S, NoAccess, Unresponsive, connect
from tasks.support import gomodule
from tasks.support.commands import run
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step
from tasks.terraform.infrastructure import Outputs, Provisioning

MODULE = "github.com/aws/karpenter-provider-aws"
CRDS = "pkg/apis/crds/*.yaml"
NAMESPACE = "kube-system"
NAME = "karpenter"
"""Name of the Helm release, the Deployment and the service account to which Terraform gives its role."""
AVAILABLE_WITHIN_S = 300.0
DRIFTED_WITHIN_S = 600.0
"""Seconds. Karpenter looks for drift when a node class changes, and again every few minutes."""
POOLS_READY_WITHIN_S = 120.0
"""Seconds. Karpenter asks AWS for AMIs, subnets and security groups, and does a dry-run launch."""
NODES_GONE_WITHIN_S = 420.0
"""Seconds. A node is drained, and its instance takes a minute or two to end."""
CLASSES_GONE_WITHIN_S = 60.0
RENDER_WITHIN_S = 60.0
CLAIMS = node_labels.CLAIMS
POOLS = "/apis/karpenter.sh/v1/nodepools"
CLASSES = "/apis/karpenter.k8s.aws/v1/ec2nodeclasses"
MADE_HERE = "app.kubernetes.io/part-of=leeward"
STEPS = ("Launched", "Registered", "Initialized")
"""Conditions of a NodeClaim, in the order in which they become true."""
NO_CAPACITY = "InsufficientCapacityError"
"""Reason of Karpenter's event about a NodeClaim for which AWS had no capacity."""


class NoHelm(Permanent):
    """The program helm was not found."""


def chart(module: gomodule.Module, kubernetes: str, cluster: str, queue: str) -> list[Object]:
    """Render upstream's chart with manifests/karpenter/values.yaml, for that version of Kubernetes.

    Raises:
        NoHelm: `helm` is not on the PATH.
        CommandFailed: helm refuses the values.
    """
    if not which("helm"):
        raise NoHelm("there is no `helm` on the PATH, and Karpenter comes as a Helm chart: install Helm 3 (https://helm.sh)")
    (values,) = manifests.load("karpenter/values", {"cluster": cluster, "queue": queue, "version": module.version.removeprefix("v")})
    with tempfile.TemporaryDirectory(prefix="leeward-") as private:
        file = Path(private, "values.yaml")
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        # A Helm without the user's plug-ins, repositories and settings, which may warn, fail or change what is rendered.
        ours = {f"HELM_{folder}_HOME": private for folder in ("CONFIG", "DATA", "CACHE")}
        variables = {**{name: value for name, value in os.environ.items() if not name.startswith("HELM_")}, **ours}
        options = ["--namespace", NAMESPACE, "--values", str(file), "--kube-version", kubernetes]
        command = ["helm", "template", NAME, str(module.folder / "charts" / "karpenter"), *options]
        rendered = run(command, within_s=RENDER_WITHIN_S, environment=variables)
    return [obj for obj in yaml.safe_load_all(rendered) if obj]


def node_pools(infrastructure: Infrastructure, made: Provisioning) -> list[Object]:
    """The NodePools and EC2NodeClasses: what Karpenter may launch."""
    inf2, core = infrastructure.inf2_nodes, infrastructure.core_nodes
    values: dict[str, Any] = {
        "ami_alias": infrastructure.karpenter.ami_alias,
        "kubernetes": infrastructure.kubernetes_version,
        "instance_profile": made.instance_profile,
        "inf2_subnets": [{"id": subnet} for subnet in made.subnet_ids["inf2"]],
        "core_subnets": [{"id": subnet} for subnet in made.subnet_ids["core"]],
        "security_groups": [{"id": made.security_group_id}],
        "tags": dict(made.tags),
        "inf2_types": [inf2.instance_type, *inf2.fallback_types],
        "inf2_disk": f"{inf2.disk_gib}Gi",
        "inf2_most": 2 * inf2.count,
        "inf2_idle": f"{infrastructure.karpenter.empty_for_s}s",
        "core_types": [core.instance_type],
        "core_disk": f"{core.disk_gib}Gi",
        "core_most": core.count,
    }
    return manifests.load("node-pools", values)


def install_controller(api: Api, cluster: str, queue: str, on_pending: Callable[[Pending], None]) -> str:
    """Install the controller and wait until it is available; returns its version.

    Raises:
        NoGo, NoHelm, CommandFailed: upstream's chart could not be fetched or rendered.
        TimedOut: the controller is not available in time.
    """
    module = gomodule.fetch(MODULE, "karpenter")
    on_pending(Pending(f"Karpenter {module.version}: definitions", 10))
    api.apply_all(module.objects(CRDS))
    api.apply_all(chart(module, str(api.get("/version")["gitVersion"]), cluster, queue))
    Until(f"Karpenter {module.version}", lambda: available(api), AVAILABLE_WITHIN_S, on_pending=on_pending).wait()
    return module.version


def apply_node_pools(api: Api, infrastructure: Infrastructure, made: Provisioning, on_pending: Callable[[Pending], None]) -> list[str]:
    """Apply the NodePools and wait until Karpenter can launch their nodes; returns their names.

    Raises:
        TimedOut: it cannot; the message has the reason.
    """
    objects = node_pools(infrastructure, made)
    # For a moment the API server refuses kinds of which the CRDs are new.
    Until("the API server to accept node pools", lambda: api.apply_all(objects), POOLS_READY_WITHIN_S, 1.0, on_pending).wait()
    return Until("Karpenter's node pools", lambda: pools_ready(api), POOLS_READY_WITHIN_S, 1.0, on_pending).wait()


def available(api: Api) -> str | Pending:
    """Whether the controller's Deployment is rolled out and its CRDs are served."""
    if not pod_problems.rolled_out(api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}")):
        pods = api.items(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=f"app.kubernetes.io/name={NAME}")
        return Pending(f"controller not available: {'; '.join(pod_problems.troubles(pods)) or 'its pods are starting'}", 50)
    served = {r["name"] for r in (api.find("/apis/karpenter.sh/v1") or {"resources": []})["resources"]}
    return "available" if {"nodepools", "nodeclaims"} <= served else Pending("the API server does not serve NodePools yet", 60)


def pools_ready(api: Api) -> list[str] | Pending:
    """Names of the pipeline's NodePools if Karpenter can launch nodes of all of them, else what is wrong."""
    pools = api.items(POOLS, labelSelector=MADE_HERE)
    wrong = [f"{kind} {obj['metadata']['name']}: {why}" for kind, obj in _classes_and_pools(api, pools) if (why := _not_ready(obj))]
    return Pending("; ".join(wrong) or "there are none", 80) if wrong or not pools else sorted(p["metadata"]["name"] for p in pools)


def _classes_and_pools(api: Api, pools: list[Object]) -> list[tuple[str, Object]]:
    """All EC2NodeClasses and these pools; the classes first, because their conditions have the reasons."""
    return [*(("EC2NodeClass", obj) for obj in api.items(CLASSES)), *(("NodePool", obj) for obj in pools)]


def _not_ready(obj: Object) -> str:
    """All conditions that do not hold; empty: the object is Ready in its present generation."""
    conditions = {c["type"]: c for c in obj.get("status", {}).get("conditions") or ()}
    ready = conditions.get("Ready", {})
    if ready.get("status") == "True" and ready.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0):
        return ""
    bad = [f"{kind} {c.get('reason', '')} {c.get('message', '')}".strip() for kind, c in conditions.items() if c["status"] != "True"]
    return ", ".join(bad) or "Karpenter has not processed it yet, or not since it was changed"


def capacity_errors(api: Api) -> list[str]:
    """AWS's messages of the last hour about missing capacity, the newest last."""
    events = api.items("/api/v1/events", fieldSelector=f"reason={NO_CAPACITY}")
    events.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    return list(dict.fromkeys(" ".join(e.get("message", "").partition(" event: ")[2].split()) for e in events))


def unready_claims(api: Api) -> list[str]:
    """For each NodeClaim that is not ready, Karpenter's reason: AWS refuses the launch, or the node offers no chip, for example."""
    found = []
    for claim in api.items(CLAIMS):
        conditions = {c["type"]: c for c in claim.get("status", {}).get("conditions") or ()}
        late = next((c for step in STEPS if (c := conditions.get(step)) and c["status"] != "True"), None)
        if late:
            words = " ".join(f"not {late['type']}: {late.get('reason', '')} {late.get('message', '')}".split())
            found.append(f"NodeClaim {claim['metadata']['name']} {words[:300]}")
    return found


def set_ami(api: Api, alias: str) -> list[str]:
    """Set the release of the pipeline's node classes; returns the names of those that had another one. Their nodes drift from then on."""
    moved = []
    for found in api.items(CLASSES, labelSelector=MADE_HERE):
        if ami.alias_of(found) != alias:
            api.merge(f"{CLASSES}/{found['metadata']['name']}", {"spec": {"amiSelectorTerms": [{"alias": alias}]}})
            moved.append(str(found["metadata"]["name"]))
    return moved


def drift_noticed(api: Api) -> bool | Pending:
    """Whether Karpenter has noticed every node that has another AMI than its class now has."""
    classes = {c["metadata"]["name"]: c for c in api.items(CLASSES, labelSelector=MADE_HERE)}
    for name, found in classes.items():
        if why := _not_ready(found):
            return Pending(f"EC2NodeClass {name}: {why}")
    amis = {name: {each["id"] for each in found.get("status", {}).get("amis") or ()} for name, found in classes.items()}
    late = []
    for claim in api.items(CLAIMS):
        status, name = claim.get("status", {}), claim["spec"]["nodeClassRef"]["name"]
        drifted = any(c["type"] == "Drifted" and c["status"] == "True" for c in status.get("conditions") or ())
        if name in amis and status.get("imageID") and status["imageID"] not in amis[name] and not drifted:
            late.append(str(claim["metadata"]["name"]))
    return Pending(f"Karpenter has not noticed the new AMI for {', '.join(late)}") if late else True


def remove_nodes(api: Api, on_pending: Callable[[Pending], None]) -> None:
    """Delete all nodes of Karpenter, and the launch templates for them; does nothing in a cluster without Karpenter.

    Raises:
        TimedOut: some are left.
    """
    for pool in api.items(POOLS):
        api.delete(f"{POOLS}/{pool['metadata']['name']}")
    for claim in api.items(CLAIMS):
        api.delete(f"{CLAIMS}/{claim['metadata']['name']}")
    Until("Karpenter's nodes to go", lambda: _gone(api, CLAIMS, "nodes"), NODES_GONE_WITHIN_S, 2.0, on_pending).wait()
    for node_class in api.items(CLASSES):
        api.delete(f"{CLASSES}/{node_class['metadata']['name']}")
    Until("Karpenter's launch templates to go", lambda: _gone(api, CLASSES, "classes"), CLASSES_GONE_WITHIN_S, 2.0, on_pending).wait()


def role_name(stack: str, region: str) -> str:
    """Name of Karpenter's IAM role, as in terraform/names.tf."""
    return f"leeward-{stack}-{region}-karpenter"


def _gone(api: Api, collection: str, what: str) -> bool | Pending:
    left = api.items(collection)
    return Pending(f"{what} still there: {', '.join(obj['metadata']['name'] for obj in left)}") if left else True


@step("install Karpenter", deadline_s=900)
def install_karpenter(site: Site, outputs: Outputs | None) -> str:
    """Install Karpenter and its NodePools; returns its version. Empty: nothing was done, because the nodes are not Karpenter's."""
    if outputs is None or outputs.karpenter is None:
        return ""
    api, progress, made = site.api(), Progress("karpenter"), outputs.karpenter
    version = install_controller(api, outputs.cluster_name, made.queue_name, progress.show_pending)
    infrastructure = ami.pinned(site.block.session(), site.infrastructure, api.find(f"{CLASSES}/inf2"))
    get_run_logger().info("nodes get the AMIs %s", infrastructure.karpenter.ami_alias)
    names = apply_node_pools(api, infrastructure, made, progress.show_pending)
    progress.show(100, f"Karpenter {version} launches nodes for {', '.join(names)}")
    return version


@step("newest AMI", deadline_s=900)
def move_to_newest_ami(site: Site) -> str:
    """Move the node classes to the newest release, if the parameters name none and Karpenter launches the nodes; returns the release."""
    infrastructure, api = site.infrastructure, site.api()
    if infrastructure.karpenter.ami_alias != ami.LATEST or not site.block.provisioned or not api.find(f"{CLASSES}/inf2"):
        return ""
    alias = ami.newest(site.block.session(), infrastructure.kubernetes_version)
    if set_ami(api, alias):
        get_run_logger().info("new nodes get the AMIs %s from now on", alias)
        progress = Progress("newest-ami")
        Until("Karpenter to notice the new AMI", lambda: drift_noticed(api), DRIFTED_WITHIN_S, 2.0, progress.show_pending).wait()
    return alias


@step("remove nodes", deadline_s=900)
def remove_karpenter_nodes(site: Site) -> str:
    """Remove all instances and launch templates of Karpenter, whether it still runs or not; returns what was done."""
    progress, session, unmanaged = Progress("remove-nodes"), site.block.session(), True
    try:
        remove_nodes(connect(site, progress.show_pending, unresponsive_for_s=UNRESPONSIVE_FOR_S), progress.show_pending)
        outcome, unmanaged = "Karpenter removed its nodes", False
    except NoAccess as error:
        if isinstance(error, Unresponsive):
            get_run_logger().warning(
                "Karpenter cannot be reached: its permissions are removed, and its instances are terminated through EC2. %s", error
            )
        outcome = f"no cluster to ask: {error}"
    except TimedOut as error:
        # Karpenter may be gone or stuck; its instances must be terminated before their network is deleted.
        get_run_logger().warning("Karpenter did not remove its nodes, so they are terminated through EC2: %s", error)
        outcome = "removed without Karpenter"
    if unmanaged:
        karpenter_orphans.remove_rights(session, role_name(site.infrastructure.name, session.region))
    done = karpenter_orphans.remove(session, site.infrastructure.name, progress.show_pending)
    progress.show(100, "no node of Karpenter is left")
    return "; ".join([outcome, *done])
