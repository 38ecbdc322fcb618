"""Cluster addresses from the host: a kube-proxy in the cloud's root namespace, through which the host's packets come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from localcloud import settings
from localcloud.machine import filesystem
from localcloud.machine.box import Box, Service, runner_command
from localcloud.machine.cluster.kubeapi import KubeApi
from localcloud.machine.processes import http_problem, wait_until

NAME = "leeward-gateway"
_NODE = f"/api/v1/nodes/{NAME}"
_METRICS = 10249


def proxy_command(binaries: Path, config: Path, name: str) -> tuple[str, ...]:
    """Return the command of a kube-proxy that changes no kernel settings beyond its network namespace."""
    flags = {
        "kubeconfig": str(config),
        "hostname-override": name,
        "cluster-cidr": settings.POD_NETWORK,
        "proxy-mode": "iptables",
        "conntrack-max-per-core": "0",
        "conntrack-tcp-timeout-established": "0s",
        "conntrack-tcp-timeout-close-wait": "0s",
        "metrics-bind-address": f"127.0.0.1:{_METRICS}",
    }
    return (str(binaries / "kube-proxy"), *(f"--{flag}={value}" for flag, value in flags.items()))


def start(api: KubeApi, binaries: Path, config: Path, folder: Path, log: Path) -> Box:
    """Start the proxy and return when it runs: from then on services answer the host."""
    folder.mkdir(parents=True)
    service = Service("kube-proxy", proxy_command(binaries, config, NAME), str(log))
    # kube-proxy waits 30 s for its Node object before it does anything. It runs on no node: it gets an object while it starts.
    api.apply(_NODE, _node())
    api.patch(f"{_NODE}/status", {"status": {"addresses": [{"type": "InternalIP", "address": settings.GATEWAY}]}})
    box = Box("kube-proxy of the gateway", runner_command(folder, [service], setup=filesystem.read_only()), log=log)
    try:
        box.wait_until("the gateway's kube-proxy runs", lambda: http_problem("127.0.0.1", _METRICS, "/healthz"), within=120.0)
    except Exception:
        box.kill()
        raise
    finally:
        api.delete(_NODE)
    return box


def remove_rules(binaries: Path, log: Path) -> None:
    """Remove the rules that the gateway's proxy made. The proxy must have ended before."""
    box = Box("kube-proxy --cleanup", [str(binaries / "kube-proxy"), "--cleanup"], log=log)
    wait_until("the rules of the cluster's services are removed", lambda: "it runs" if box.running else None, within=60.0)


def _node() -> dict[str, Any]:
    taint = {"key": NAME, "effect": "NoSchedule"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}, "spec": {"unschedulable": True, "taints": [taint]}}
