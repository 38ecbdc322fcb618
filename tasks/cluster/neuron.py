"""AWS's Neuron device plug-in: without it no node offers a chip. Also what is wrong with it where a node offers none."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.cluster.access import connect
from tasks.kubernetes import manifests, pod_problems
from tasks.kubernetes.api import Api, Object
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

NAMESPACE = "kube-system"
PODS = "app.kubernetes.io/name=neuron-device-plugin"
CHIP = "aws.amazon.com/neuron"
"""What a node with a chip offers, and a worker asks for."""


def install_plugin(api: Api) -> str:
    """Every inf2 node runs the plug-in, those that come later too; returns its image.

    Nothing is waited for: with Karpenter there is no such node yet. `verify` waits for the chips of those that there are.
    """
    things = manifests.load("neuron-device-plugin", {})
    api.apply_all(things)
    (container,) = next(t for t in things if t["kind"] == "DaemonSet")["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def without_chip(nodes: Iterable[Object]) -> list[str]:
    """Names of those that offer none."""
    return [str(n["metadata"]["name"]) for n in nodes if int(n.get("status", {}).get("allocatable", {}).get(CHIP, "0")) < 1]


def troubles(api: Api) -> list[str]:
    """One sentence for each of its pods that is not ready."""
    return pod_problems.troubles(api.items(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=PODS))


@step("install Neuron device plug-in", deadline_s=120)
def install_device_plugin(site: Site) -> str:
    """Every inf2 node will offer its chips; returns the plug-in's image."""
    progress = Progress("neuron")
    image = install_plugin(connect(site, progress.show_pending))  # the first that asks a new cluster
    progress.show(100, f"inf2 nodes run {image}")
    return image
