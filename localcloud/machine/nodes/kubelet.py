"""A node's kubelet: its configuration and its command line."""

from __future__ import annotations

import json
from pathlib import Path

from localcloud import settings
from localcloud.machine.cluster import kubeconfig
from localcloud.machine.cluster.controlplane import Cluster
from localcloud.machine.interface import MachineError, NodeSpec
from localcloud.machine.nodes.containerd import SOCKET


def command(cluster: Cluster, node: NodeSpec, folder: Path, address: str) -> tuple[str, ...]:
    """Return the command line; write configuration and certificates to the node's folder."""
    client = cluster.authority.client(f"kubelet-{node.instance_id}", f"system:node:{node.name}", ["system:nodes"])
    flags = {
        "config": _write_config(cluster, node, folder, address),
        "kubeconfig": kubeconfig.write(folder / "kubelet.kubeconfig", cluster.authority.certificate, client),
        "hostname-override": node.name,
        "node-ip": address,
        "node-labels": ",".join(f"{key}={value}" for key, value in sorted(node.labels.items())),
        "v": 1,
    }
    return (str(cluster.binaries / "kubelet"), *(f"--{flag}={value}" for flag, value in flags.items()))


def _write_config(cluster: Cluster, node: NodeSpec, folder: Path, address: str) -> Path:
    serving = cluster.authority.server(f"kubelet-serving-{node.instance_id}", f"system:node:{node.name}", [address, node.name])
    resolver = folder / "resolv.conf"
    resolver.write_text("")  # nodes have no internet access, so there is no name server but the cluster's
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(cluster.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "providerID": f"aws:///{node.zone}/{node.instance_id}",
        "registerWithTaints": [taint(text) for text in node.taints],
        "clusterDNS": [settings.CLUSTER_DNS],
        "clusterDomain": settings.CLUSTER_DOMAIN,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "resolvConf": str(resolver),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "cgroupDriver": "cgroupfs",
        # Nodes share one machine: none may reserve it. cgroup v1 must be accepted.
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        # The disk is the machine's: other things may have filled it, so the node evicts pods late.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
        "imageGCHighThresholdPercent": 100,
        # What a device plug-in offers is in the Node object within a second; an unchanged status is written no more often than usual.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "5s",
        "serializeImagePulls": False,
    }
    path = folder / "kubelet.json"
    path.write_text(json.dumps(config, indent=1))
    return path


def taint(text: str) -> dict[str, str]:
    """Parse a taint of the form "key=value:Effect" or "key:Effect"; MachineError when it is neither."""
    rest, _, effect = text.rpartition(":")
    key, _, value = rest.partition("=")
    if not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise MachineError(f"{text!r} is no taint: write key=value:NoSchedule (or PreferNoSchedule, NoExecute)")
    return {"key": key, "value": value, "effect": effect}
