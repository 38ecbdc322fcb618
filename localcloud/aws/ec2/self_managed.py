"""Instances that somebody launched to be nodes, by a fleet or by themselves: their user data says of which cluster."""

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
    """It becomes a node of the cluster that its user data names, a moment later.

    As on AWS nobody is told when it does not: the instance runs, and no node comes. Why stands in the log. Those of a
    managed node group are brought in by it.
    """
    if any(tag["key"] == "eks:nodegroup-name" for tag in instance.get_tags()):
        return
    try:
        wanted = node_config.parse(_text(instance.user_data))
    except node_config.NotReadable as error:
        log.warning("instance %s joins no cluster: %s", instance.id, error)
        return
    if wanted:
        background.start(f"join {instance.id} to {wanted.cluster}", lambda: _join(instance, wanted))


def _join(instance: Instance, wanted: node_config.Bootstrap) -> None:
    cluster = eks_backends[settings.ACCOUNT][settings.REGION].clusters.get(wanted.cluster)
    if cluster is None or cluster.status not in ("ACTIVE", "UPDATING"):
        log.warning("instance %s joins no cluster: there is none with name %r that is ACTIVE", instance.id, wanted.cluster)
        return
    try:
        instances.join(instance, instances.Membership(wanted.cluster, _lost), wanted.labels, wanted.taints)
    except MachineError as error:
        log.error("instance %s does not become a node of %s: %s", instance.id, wanted.cluster, error)
        return
    if not instance.is_running():  # it was terminated before anybody knew that it was to be a node
        instances.leave(instance)


def _lost(instance_id: str, problem: str | None) -> None:
    """Whoever launched it looks after it: nothing is launched in its place."""
    if problem:
        log.error("the node of instance %s is not gone: %s", instance_id, problem)


def _text(user_data: object) -> str | None:
    """Base64, in either of the forms that moto keeps."""
    return user_data if user_data is None or isinstance(user_data, str) else bytes(user_data.as_bytes()).decode()  # type: ignore[attr-defined]
