"""The interface between localcloud/aws and the machine: what the embedded AWS may ask for.

The AWS side (moto and its extension) keeps the state of AWS resources; everything real - control plane, nodes, Redis,
images - is behind this protocol. Calls block until the thing exists or is gone; the AWS side runs them
in threads and shows CREATING meanwhile. Every call is idempotent. A failure raises `MachineError`; its
text becomes the resource's failure reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


class MachineError(RuntimeError):
    """A call that the machine could not carry out; the text names what failed and why."""


@dataclass(frozen=True)
class ControlPlane:
    """A running Kubernetes control plane."""

    endpoint: str
    """URL https://ADDRESS, reachable from the host, nodes and pods."""
    ca_pem: str


@dataclass(frozen=True)
class NodeSpec:
    """An EC2 instance that will become a node of the cluster."""

    instance_id: str
    name: str
    """Name of the node: the instance's private DNS name, such as ip-10-20-32-7.us-west-2.compute.internal."""
    instance_type: str
    zone: str
    region: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    """Taints in the form "key=value:Effect"."""
    neuron_chips: int = 0
    neuron_cores: int = 0


@dataclass(frozen=True)
class Redis:
    """A running replication group."""

    primary: str
    """Address that always points to the primary."""
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
    """Everything real that AWS calls can create, change and delete."""

    def create_control_plane(self, name: str, version: str) -> ControlPlane:
        """Create a control plane; return when its /readyz answers ok. MachineError for a second cluster: only one is possible."""

    def delete_control_plane(self, name: str) -> None:
        """Delete the control plane and its data. Its nodes must have been removed before."""

    def join_node(self, node: NodeSpec) -> str:
        """Add the node to the cluster; return its IP address when it is Ready."""

    def remove_node(self, instance_id: str) -> None:
        """Remove kubelet, containers and the Node object."""

    def install_addon(self, cluster: str, name: str) -> None:
        """Install the add-on; return when it runs (coredns), at once if it is part of every node (kube-proxy, vpc-cni)."""

    def remove_addon(self, cluster: str, name: str) -> None:
        """Remove the add-on's workload."""

    def bind_access_policy(self, cluster: str, group: str, role: str, namespace: str | None) -> None:
        """Give the Kubernetes group `group` the ClusterRole `role`: everywhere, or in that namespace alone.

        A namespace that does not exist yet is no error: the binding is made once it does.
        """

    def review_pod_token(self, cluster: str, token: str) -> PodToken | None:
        """Ask the cluster's API server for which pod this token was issued.

        None unless the token is valid now, for the audience POD_IDENTITY_SERVICE, and bound to a pod that exists.
        """

    def create_redis(self, name: str, *, replicas: int, auth_token: str | None, tls: bool, parameters: dict[str, str]) -> Redis:
        """Create a primary and `replicas` replicas; return their addresses when they are in sync."""

    def configure_redis(self, name: str, *, auth_token: str | None = None, parameters: dict[str, str] | None = None) -> None:
        """Set a new AUTH token or parameters on every member; None leaves them as they are."""

    def fail_over_redis(self, name: str) -> int:
        """Promote a replica and move the primary's address to it; return its index, from 0."""

    def delete_redis(self, name: str) -> None:
        """Delete every member of the group."""

    def registry(self) -> str:
        """Return `ip:port` of the image registry that nodes pull from."""


@runtime_checkable
class Inventoried(Protocol):
    """A machine that can list the real things it made. Not every machine can."""

    def inventory(self) -> dict[str, list[str]]:
        """List by kind (nodes, redis, ...) what AWS calls created and did not delete yet."""
