"""Instances and launch templates that Karpenter left in AWS, because it or its cluster was gone first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from drills.kubernetes.node_labels import NODEPOOL
from drills.runner.waiting import Pending, Until
from tasks.aws.leftovers import instances, pages

ENDED_WITHIN_S = 300.0
LOOK_EVERY_S = 3.0
_CLUSTER = "tag:eks:eks-cluster-name"
"""Filter for the tag that Karpenter sets on everything it creates."""
_ALIVE = ["pending", "running", "stopping", "stopped", "shutting-down"]


def remove_rights(session: Any, role: str) -> None:
    """Remove all permissions from Karpenter's role, so that a Karpenter out of reach launches no more nodes. Terraform restores them."""
    iam = session.client("iam")
    try:
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            iam.delete_role_policy(RoleName=role, PolicyName=policy)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise


def remove(session: Any, cluster: str, on_pending: Callable[[Pending], None]) -> list[str]:
    """Remove all instances and launch templates of the cluster's Karpenter; returns what was removed.

    Raises:
        TimedOut: an instance did not end in time.
    """
    ec2 = session.client("ec2")
    ended: list[str] = []

    def probe() -> bool | Pending:
        # At every attempt: a Karpenter that still runs may have launched another one.
        if running := _instances(ec2, cluster, _ALIVE[:-1]):
            ec2.terminate_instances(InstanceIds=running)
            ended.extend(running)
        left = _instances(ec2, cluster, _ALIVE)
        return Pending(f"ending: {', '.join(left)}") if left else True

    Until("instances to end", probe, ENDED_WITHIN_S, LOOK_EVERY_S, on_pending).wait()
    done = [f"terminated {', '.join(dict.fromkeys(ended))}"] if ended else []
    for template in pages(ec2, "describe_launch_templates", "LaunchTemplates", Filters=[{"Name": _CLUSTER, "Values": [cluster]}]):
        try:
            ec2.delete_launch_template(LaunchTemplateId=template["LaunchTemplateId"])
        except ClientError as error:
            if "NotFound" not in error.response["Error"]["Code"]:
                raise
        done.append(f"deleted {template['LaunchTemplateId']}")
    return done


def _instances(ec2: Any, cluster: str, states: list[str]) -> list[str]:
    filters = [
        {"Name": _CLUSTER, "Values": [cluster]},
        {"Name": "tag-key", "Values": [NODEPOOL]},
        {"Name": "instance-state-name", "Values": states},
    ]
    return [instance["InstanceId"] for instance in instances(ec2, filters)]
