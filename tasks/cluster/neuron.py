"""AWS's Neuron device plug-in, without which no node offers its chips, and why a node offers none."""

from __future__ import annotations

from collections.abc import Iterable

from drills.kubernetes import manifests, pod_problems
from drills.kubernetes.api import Api, Object
from tasks.cluster.access import connect
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

NAMESPACE = "kube-system"
PODS = "app.kubernetes.io/name=neuron-device-plugin"
CHIP = "aws.amazon.com/neuron"
"""Extended resource that nodes with a chip offer and workers request."""


def install_plugin(api: Api) -> str:
    """Install the plug-in on all present and later inf2 nodes; returns its image.

    Does not wait: with Karpenter there is no inf2 node yet. `verify` waits for the chips of the nodes that exist.
    """
    objects = manifests.load("neuron-device-plugin", {})
    api.apply_all(objects)
    (container,) = next(t for t in objects if t["kind"] == "DaemonSet")["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def without_chip(nodes: Iterable[Object]) -> list[str]:
    """Names of the nodes that offer no chip."""
    return [str(n["metadata"]["name"]) for n in nodes if int(n.get("status", {}).get("allocatable", {}).get(CHIP, "0")) < 1]


def troubles(api: Api) -> list[str]:
    """One sentence for each pod of the plug-in that is not ready."""
    return pod_problems.troubles(api.items(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=PODS))


@step("install Neuron device plug-in", deadline_s=120)
def install_device_plugin(site: Site) -> str:
    """Install the plug-in, so that every inf2 node offers its chips; returns its image."""
    progress = Progress("neuron")
    image = install_plugin(connect(site, progress.show_pending))  # connect(): this is the first request to a new cluster
    progress.show(100, f"inf2 nodes run {image}")
    return image
