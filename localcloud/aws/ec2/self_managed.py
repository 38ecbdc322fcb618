"""Self-managed nodes: instances of CreateFleet or RunInstances, which join the cluster that their user data names."""

from __future__ import annotations

import logging

from moto.ec2.models.instances import Instance
from moto.eks.models import eks_backends

from localcloud import settings
from localcloud.aws import background
from localcloud.aws.ec2 import instances, node_config
from localcloud.machine.interface import MachineError

log = logging.getLogger(__name__)


def on_launched(instance: Instance) -> None:
    """Let the instance join, in a thread, the cluster that its user data names. A managed node group does that for its own instances.

    As on AWS, the caller of the API gets no error when that fails: the instance runs, and no node appears. The reason is logged.
    """
    if any(tag["key"] == "eks:nodegroup-name" for tag in instance.get_tags()):
        return
    try:
        wanted = node_config.parse(_text(instance.user_data))
    except node_config.InvalidNodeConfig as error:
        log.warning("instance %s joins no cluster: %s", instance.id, error)
        return
    if wanted:
        background.start(f"join {instance.id} to {wanted.cluster}", lambda: _join(instance, wanted))


def _join(instance: Instance, wanted: node_config.NodeConfig) -> None:
    cluster = eks_backends[settings.ACCOUNT][settings.REGION].clusters.get(wanted.cluster)
    if cluster is None or cluster.status not in ("ACTIVE", "UPDATING"):
        log.warning("instance %s joins no cluster: there is none with name %r that is ACTIVE", instance.id, wanted.cluster)
        return
    try:
        instances.join(instance, instances.Membership(wanted.cluster, _on_loss), wanted.labels, wanted.taints)
    except MachineError as error:
        log.error("instance %s does not become a node of %s: %s", instance.id, wanted.cluster, error)
        return
    if not instance.is_running():  # it was terminated before it was registered as a node
        instances.leave(instance)


def _on_loss(instance_id: str, problem: str | None) -> None:
    """Log what went wrong. Replacing the instance is left to the client that launched it."""
    if problem:
        log.error("the node of instance %s is not gone: %s", instance_id, problem)


def _text(user_data: object) -> str | None:
    """The user data in base64; moto keeps it as text or as bytes."""
    return user_data if user_data is None or isinstance(user_data, str) else bytes(user_data.as_bytes()).decode()  # type: ignore[attr-defined]
