"""EKS add-ons. CoreDNS is a workload that the cloud applies; the others are part of every node here.

The objects have the names that the EKS add-on gives them, so that programs that look for `kube-dns` find it.
"""

from __future__ import annotations

from typing import Any

from localcloud import settings
from localcloud.machine.cluster.kubeapi import KubeApi
from localcloud.machine.interface import MachineError
from localcloud.machine.processes import wait_until

IN_EVERY_NODE = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
_READY_WITHIN = 120.0
_NAMESPACE = "kube-system"
_LABELS = {"k8s-app": "kube-dns", "eks.amazonaws.com/component": "coredns"}
_RBAC = "rbac.authorization.k8s.io"
_COREFILE = f""".:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes {settings.CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
    prometheus :9153
    cache 5
    reload
    loadbalance
}}
"""
"""The EKS add-on's, but without forwarding (there is no internet access) and with a TTL of 5 s: a new head must be found at once."""


def install(api: KubeApi, name: str) -> None:
    """Install the add-on; return when its workload is available. As on EKS, CoreDNS needs a node for that."""
    if name in IN_EVERY_NODE:
        return
    if name != "coredns":
        raise MachineError(f"the add-on {name} is not available here; there are coredns, {', '.join(IN_EVERY_NODE)}")
    for path, manifest in _objects():
        api.apply(path, manifest)
    wait_until("coredns is available", lambda: _unavailable(api), within=_READY_WITHIN, every=0.5)


def remove(api: KubeApi, name: str) -> None:
    """Delete the add-on's workload; does nothing for an add-on that is part of every node."""
    if name == "coredns":
        for path, _ in reversed(_objects()):
            api.delete(path)


def _unavailable(api: KubeApi) -> str | None:
    found = api.get(f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments/coredns")
    status = (found or {}).get("status", {})
    if status.get("availableReplicas", 0) >= 1 and status.get("updatedReplicas", 0) >= 1:
        return None
    return _why_not(api) or f"deployment status {status}"


def _why_not(api: KubeApi) -> str | None:
    """Return the first reason that a pod gives for not being ready."""
    pods = api.get(f"/api/v1/namespaces/{_NAMESPACE}/pods?labelSelector=k8s-app%3Dkube-dns") or {"items": []}
    for pod in pods["items"]:
        for state in pod["status"].get("containerStatuses", []):
            if waiting := state["state"].get("waiting"):
                return f"pod {pod['metadata']['name']}: {waiting.get('reason')} {waiting.get('message', '')}"
        for condition in pod["status"].get("conditions", []):
            if condition["status"] == "False" and condition.get("message"):
                return f"pod {pod['metadata']['name']}: {condition['message']}"
    return None


def _objects() -> list[tuple[str, dict[str, Any]]]:
    """Return the objects of the add-on, each with its path in the API."""
    core, rbac = f"/api/v1/namespaces/{_NAMESPACE}", f"/apis/{_RBAC}/v1"
    return [
        (f"{core}/serviceaccounts/coredns", _object("v1", "ServiceAccount", "coredns")),
        (f"{rbac}/clusterroles/system:coredns", _object(f"{_RBAC}/v1", "ClusterRole", "system:coredns", rules=_rules())),
        (f"{rbac}/clusterrolebindings/system:coredns", _binding()),
        (f"{core}/configmaps/coredns", _object("v1", "ConfigMap", "coredns", data={"Corefile": _COREFILE})),
        (f"{core}/services/kube-dns", _object("v1", "Service", "kube-dns", spec=_service())),
        (f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments/coredns", _object("apps/v1", "Deployment", "coredns", spec=_deployment())),
    ]


def _object(version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": _LABELS}
    if not kind.startswith("ClusterRole"):
        metadata["namespace"] = _NAMESPACE
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def _rules() -> list[dict[str, list[str]]]:
    watch = ["list", "watch"]
    return [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": watch},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch},
    ]


def _binding() -> dict[str, Any]:
    role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "system:coredns"}
    subject = {"kind": "ServiceAccount", "name": "coredns", "namespace": _NAMESPACE}
    return _object(f"{_RBAC}/v1", "ClusterRoleBinding", "system:coredns", roleRef=role, subjects=[subject])


def _service() -> dict[str, Any]:
    ports = [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP")]
    return {
        "clusterIP": settings.CLUSTER_DNS,
        "selector": _LABELS,
        "ports": [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in ports],
    }


def _deployment() -> dict[str, Any]:
    return {
        "replicas": 2,
        "selector": {"matchLabels": _LABELS},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "template": {"metadata": {"labels": _LABELS}, "spec": _pod()},
    }


def _pod() -> dict[str, Any]:
    """Return the pod's specification: spread over nodes, without a toleration for nodes with accelerators."""
    spread = {"podAffinityTerm": {"labelSelector": {"matchLabels": _LABELS}, "topologyKey": "kubernetes.io/hostname"}, "weight": 100}
    return {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [spread]}},
        "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
        "containers": [_container()],
        "volumes": [{"name": "config", "configMap": {"name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}]}}],
    }


def _container() -> dict[str, Any]:
    return {
        "name": "coredns",
        "image": settings.COREDNS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"requests": {"cpu": "50m", "memory": "40Mi"}, "limits": {"memory": "170Mi"}},
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
        ],
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "initialDelaySeconds": 20, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 2, "timeoutSeconds": 5},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
    }
