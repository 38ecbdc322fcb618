"""EKS access policies in a cluster: Kubernetes groups bound to ClusterRoles, everywhere or in one namespace."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from localcloud.machine.cluster.kubeapi import KubeApi

_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Binding:
    """A group that has a ClusterRole in one namespace, or everywhere when `namespace` is None."""

    group: str
    role: str
    namespace: str | None

    @property
    def path(self) -> str:
        """Path of the object in the Kubernetes API."""
        kind = f"namespaces/{self.namespace}/rolebindings" if self.namespace else "clusterrolebindings"
        return f"/apis/{_RBAC}/v1/{kind}/{self.group}"

    def manifest(self) -> dict[str, Any]:
        """Return the RoleBinding or ClusterRoleBinding."""
        metadata = {"name": self.group} | ({"namespace": self.namespace} if self.namespace else {})
        return {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding" if self.namespace else "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": self.role},
            "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": self.group}],
        }


class Access:
    """The bindings of one cluster, including those for a namespace that does not exist yet."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._guard = threading.Lock()
        self._waiting: set[Binding] = set()

    def bind(self, binding: Binding) -> None:
        """Make the binding, or leave it to `reconcile` while its namespace does not exist."""
        with self._guard:
            self._waiting.add(binding)
            self._try(binding)

    def reconcile(self) -> None:
        """Make the bindings that waited for a namespace which exists now."""
        with self._guard:
            for binding in list(self._waiting):
                self._try(binding)

    def _try(self, binding: Binding) -> None:
        if binding.namespace is None or self._api.get(f"/api/v1/namespaces/{binding.namespace}") is not None:
            self._api.apply(binding.path, binding.manifest())
            self._waiting.discard(binding)
