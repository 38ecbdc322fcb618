"""What the embedded AWS may ask of the machine: the seam between localcloud/aws and the rest.

The AWS side (moto and its extension) keeps the books; everything real - control plane, nodes, Redis,
images - is behind this protocol. Calls block until the thing is there or gone; the AWS side runs them
in threads and shows CREATING meanwhile. Every call is idempotent. A failure raises `MachineError`, whose
text becomes the resource's failure reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


class MachineError(RuntimeError):
    """The machine could not do it; the text says what and why."""


@dataclass(frozen=True)
class ControlPlane:
    """A running Kubernetes control plane."""

    endpoint: str
    """https://ADDRESS, reachable from the host, nodes and pods."""
    ca_pem: str


@dataclass(frozen=True)
class NodeSpec:
    """An EC2 instance that is to become a node of the cluster."""

    instance_id: str
    name: str
    """Private DNS name, e.g. ip-10-20-32-7.us-west-2.compute.internal: the node's name."""
    instance_type: str
    zone: str
    region: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    """Each "key=value:Effect"."""
    neuron_chips: int = 0
    neuron_cores: int = 0


@dataclass(frozen=True)
class Redis:
    """A running replication group."""

    primary: str
    """Address that follows the primary."""
    reader: str
    port: int


@dataclass(frozen=True)
class PodToken:
    """The pod that a service account token was issued for."""

    namespace: str
    service_account: str
    pod_name: str
    pod_uid: str


class Machine(Protocol):
    """Everything real that an AWS call can cause."""

    def create_control_plane(self, name: str, version: str) -> ControlPlane:
        """A control plane whose /readyz answers ok. A second cluster raises MachineError: there is room for one."""

    def delete_control_plane(self, name: str) -> None:
        """The control plane and its data are gone; nodes must have been removed before."""

    def join_node(self, node: NodeSpec) -> str:
        """The node is Ready in the cluster; returns its IP address."""

    def remove_node(self, instance_id: str) -> None:
        """Kubelet, containers and node object are gone."""

    def install_addon(self, cluster: str, name: str) -> None:
        """The add-on's workload runs (coredns), or it is part of every node already (kube-proxy, vpc-cni)."""

    def remove_addon(self, cluster: str, name: str) -> None:
        """The add-on's workload is gone."""

    def bind_access_policy(self, cluster: str, group: str, role: str, namespace: str | None) -> None:
        """Members of the Kubernetes group `group` have the ClusterRole `role`: everywhere, or in that namespace alone.

        A namespace that does not exist yet is no error: the binding holds once it does.
        """

    def review_pod_token(self, cluster: str, token: str) -> PodToken | None:
        """Whose token it is, asked of the cluster's API server.

        None unless it is valid now, for the audience POD_IDENTITY_SERVICE, and bound to a pod that is there.
        """

    def create_redis(self, name: str, *, replicas: int, auth_token: str | None, tls: bool, parameters: dict[str, str]) -> Redis:
        """One primary and `replicas` replicas in sync, behind an address that follows the primary."""

    def configure_redis(self, name: str, *, auth_token: str | None = None, parameters: dict[str, str] | None = None) -> None:
        """The new AUTH token or parameters are in force on every member; None leaves them."""

    def fail_over_redis(self, name: str) -> int:
        """A replica is primary and the address points at it; returns the new primary's index, from 0."""

    def delete_redis(self, name: str) -> None:
        """Every member is gone."""

    def registry(self) -> str:
        """`ip:port` of the image registry that nodes pull from."""


@runtime_checkable
class Inventoried(Protocol):
    """A machine that can list the real things it made; optional."""

    def inventory(self) -> dict[str, list[str]]:
        """What is left of what AWS calls caused, by kind (nodes, redis, ...): empty once all was deleted again."""
