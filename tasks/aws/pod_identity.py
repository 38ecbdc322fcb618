"""The role that AWS gives the workers: to read models, and to keep what was compiled. Terraform makes it (terraform/models.tf)."""

from __future__ import annotations

from tasks.aws.account import Clients, caller_identity

ACCOUNT = "workers"
"""Name of the workers' service account, as in manifests/workers-account.yaml."""


def role_arn(session: Clients, stack: str) -> str:
    """ARN of the workers' role, as in terraform/names.tf."""
    caller = caller_identity(session)
    partition = session.client("sts").meta.partition
    return f"arn:{partition}:iam::{caller.account}:role/leeward-{stack}-{caller.region}-models"


def associate(session: Clients, stack: str, namespace: str) -> bool:
    """Give the workers of the namespace their role, for pods that start from now on; returns whether they had none."""
    eks = session.client("eks")
    found = eks.list_pod_identity_associations(clusterName=stack, namespace=namespace, serviceAccount=ACCOUNT)["associations"]
    if found:
        return False
    eks.create_pod_identity_association(
        clusterName=stack, namespace=namespace, serviceAccount=ACCOUNT, roleArn=role_arn(session, stack), tags={"leeward:name": stack}
    )
    return True
