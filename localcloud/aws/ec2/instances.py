"""Instances of the embedded EC2 that are nodes of a cluster.

The code that launches an instance (a managed node group, a fleet, RunInstances) calls `join`, and `leave` to end it. When a
client's TerminateInstances ends it instead, the code that launched it is notified through `Membership.on_loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceState

from localcloud.aws import background, current_machine, events, moto_lock
from localcloud.machine.interface import MachineError, NodeSpec

_SHUTTING_DOWN, _TERMINATED = ("shutting-down", 32), ("terminated", 48)


@dataclass(frozen=True)
class Membership:
    """An instance's place in a cluster."""

    cluster: str
    on_loss: Callable[[str, str | None], None]
    """Called from a thread after TerminateInstances, with the instance's id, and why its node is not gone (None: it is gone)."""


_members: dict[str, Membership] = {}
_lock = Lock()


def join(instance: Instance, membership: Membership, labels: dict[str, str], taints: tuple[str, ...]) -> None:
    """Make the instance a Ready node, with the node's address. On MachineError it is not a member."""
    spec = _node_spec(instance, labels, taints)
    # As on AWS the name does not change any more; the machine chooses another address.
    vars(instance)["_node_name"] = spec.name
    with _lock:
        _members[instance.id] = membership
    try:
        address = current_machine.machine().join_node(spec)
        with moto_lock.MOTO_LOCK:
            _set_address(instance, address)
    except MachineError:
        with _lock:
            _members.pop(instance.id, None)
        raise


def leave(instance: Instance) -> None:
    """Remove the node and terminate the instance, without `on_loss`. After a MachineError it is shutting-down: call again."""
    with _lock:
        _members.pop(instance.id, None)
    with moto_lock.MOTO_LOCK:
        if instance.state not in (_SHUTTING_DOWN[0], _TERMINATED[0]):
            instance.terminate()
        instance._state = InstanceState(*_SHUTTING_DOWN)
        events.send_state_changes(instance, _SHUTTING_DOWN[0])
    current_machine.machine().remove_node(instance.id)
    with moto_lock.MOTO_LOCK:
        instance._state = InstanceState(*_TERMINATED)
        events.send_state_changes(instance, _TERMINATED[0])


def is_node(instance_id: str) -> bool:
    """Whether the instance is a node of a cluster, or about to become one."""
    with _lock:
        return instance_id in _members


def on_terminated(instance: Instance) -> None:
    """After TerminateInstances: if the instance is a node, remove the node in a thread, then call `on_loss`."""
    with _lock:
        membership = _members.pop(instance.id, None)
    if membership is None:
        events.send_state_changes(instance, _SHUTTING_DOWN[0], _TERMINATED[0])
        return
    instance._state = InstanceState(*_SHUTTING_DOWN)
    events.send_state_changes(instance, _SHUTTING_DOWN[0])

    def work() -> None:
        problem = None
        try:
            leave(instance)
        except MachineError as error:
            problem = str(error)
        membership.on_loss(instance.id, problem)

    background.start(f"terminate {instance.id}", work)


def private_dns_name(instance: Instance) -> str:
    """The instance's name in VPC and cluster: made from its first address, whatever its address is later."""
    fixed: str | None = vars(instance).get("_node_name")
    if fixed:
        return fixed
    address = (instance.private_ip or "").replace(".", "-")
    zone = "ec2.internal" if instance.region_name == "us-east-1" else f"{instance.region_name}.compute.internal"
    return f"ip-{address}.{zone}"


def neuron(instance_type: str) -> tuple[int, int]:
    """Number of Neuron chips and of Neuron cores of an instance type; (0, 0) when it has none."""
    devices = INSTANCE_TYPES.get(instance_type, {}).get("NeuronInfo", {}).get("NeuronDevices", [])
    return sum(d["Count"] for d in devices), sum(d["Count"] * d["CoreInfo"]["Count"] for d in devices)


def _node_spec(instance: Instance, labels: dict[str, str], taints: tuple[str, ...]) -> NodeSpec:
    zone, region = instance.availability_zone or "", instance.region_name
    chips, cores = neuron(instance.instance_type)
    standard = {
        "node.kubernetes.io/instance-type": instance.instance_type,
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": region,
    }
    return NodeSpec(
        instance_id=instance.id,
        name=private_dns_name(instance),
        instance_type=instance.instance_type,
        zone=zone,
        region=region,
        labels=standard | labels,
        taints=taints,
        neuron_chips=chips,
        neuron_cores=cores,
    )


def _set_address(instance: Instance, address: str) -> None:
    interface = instance.nics[0]
    interface.private_ip_address = address
    interface.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
