"""The KubeRay operator: upstream's CRDs and ClusterRole from the pinned Go module, and the Deployment in manifests/."""

from __future__ import annotations

from collections.abc import Callable

from drills.kubernetes import manifests, ownership, pod_problems
from drills.kubernetes.api import Api
from drills.runner.waiting import Pending, Until
from tasks.support import gomodule
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

MODULE = "github.com/ray-project/kuberay/ray-operator"
UPSTREAM = ("config/crd/bases/ray.io_*.yaml", "config/rbac/role.yaml")
"""Files in the module with the CRDs, and with the ClusterRole of the operator."""
NAMESPACE = "kuberay-system"
IMAGE = "quay.io/kuberay/operator"
AVAILABLE_WITHIN_S = 300.0
"""Seconds. An image of 50 MB has to be pulled, and one process has to start."""


def find_foreign_operator(api: Api) -> str:
    """Namespace and name of a KubeRay operator that this pipeline did not install; empty: there is none."""
    found = api.items("/apis/apps/v1/deployments", labelSelector="app.kubernetes.io/name=kuberay-operator")
    others = [d for d in found if d["metadata"]["namespace"] != NAMESPACE]
    return "/".join((others[0]["metadata"]["namespace"], others[0]["metadata"]["name"])) if others else ""


def install_operator(api: Api, on_pending: Callable[[Pending], None]) -> str:
    """Install the operator and wait until it is available; returns its version.

    Raises:
        NoGo, CommandFailed: upstream's manifests could not be fetched.
        TimedOut: it is not available in time.
    """
    found = gomodule.fetch(MODULE, "kuberay")
    version = found.version
    on_pending(Pending(f"KubeRay {version}: definitions", 10))
    api.apply_all(found.objects(*UPSTREAM))
    ownership.ensure_namespace(api, NAMESPACE)
    api.apply_all(manifests.load("kuberay-operator", {"namespace": NAMESPACE, "operator_image": f"{IMAGE}:{version}"}))
    Until(f"KubeRay operator {version}", lambda: available(api), AVAILABLE_WITHIN_S, on_pending=on_pending).wait()
    return version


def available(api: Api) -> str | Pending:
    """Whether the operator's Deployment is rolled out and its CRDs are served."""
    if not pod_problems.rolled_out(api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/kuberay-operator")):
        why = "; ".join(pod_problems.troubles(api.items(f"/api/v1/namespaces/{NAMESPACE}/pods"))) or "its pod is starting"
        return Pending(f"operator not available: {why}", 50)
    served = {r["name"] for r in (api.find("/apis/ray.io/v1") or {"resources": []})["resources"]}
    return "available" if {"rayservices", "rayclusters"} <= served else Pending("the API server does not serve RayServices yet", 80)


@step("install KubeRay", deadline_s=None)
def install_kuberay(site: Site) -> str:
    """Install the KubeRay operator; returns its version. In a shared cluster, an operator that is there already is used as it is."""
    api = site.api()
    if not site.block.provisioned and (where := find_foreign_operator(api)):
        return f"as installed in {where}"
    progress = Progress("kuberay")
    version = install_operator(api, progress.show_pending)
    progress.show(100, f"KubeRay {version} is available")
    return version
