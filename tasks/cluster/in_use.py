"""What a plan would take away from services that run."""

from __future__ import annotations

from blocks.errors import Permanent, PipelineError
from drills.kubernetes.api import Object
from tasks.cluster.access import NoAccess, connect
from tasks.support.site import Site
from tasks.support.step import step
from tasks.terraform.events import PlanSummary

REDIS = frozenset({"aws_elasticache_replication_group"})
CLUSTER = frozenset({"aws_eks_cluster"})
NETWORK = frozenset({"aws_vpc", "aws_subnet", "aws_internet_gateway", "aws_nat_gateway", "aws_route_table"})
NODES = frozenset({"aws_eks_node_group", "aws_iam_role", "aws_iam_instance_profile"})
PROTECTED = CLUSTER | NETWORK | REDIS
"""Types of resources that a plan may replace or destroy only after a second, explicit yes."""


class InService(Permanent):
    """Services that run use what the plan would take away."""


def taken_away(planned: PlanSummary, types: frozenset[str]) -> list[str]:
    """Addresses of the resources of these types that the plan replaces or destroys."""
    return [change.address for change in planned.changes if change.destructive and change.type in types]


def users(services: list[Object], planned: PlanSummary) -> list[str]:
    """Descriptions of the services that use what the plan replaces or destroys, and of what they use."""
    everybodys = taken_away(planned, CLUSTER | NETWORK | NODES)
    redis = taken_away(planned, REDIS)
    found = []
    for service in services:
        name = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        external = service.get("spec", {}).get("rayClusterConfig", {}).get("gcsFaultToleranceOptions")
        if used := [*everybodys, *(redis if external else ())]:
            found.append(f"{name} uses {', '.join(used[:4])}{' and more' if len(used) > 4 else ''}")
    return found


@step("check what is in use", deadline_s=120)
def check_in_use(site: Site, planned: PlanSummary) -> None:
    """Check that no service that runs uses what the plan replaces or destroys.

    Raises:
        InService: one does, or the cluster could not be asked.
    """
    if not taken_away(planned, PROTECTED | NODES):
        return
    try:
        services = connect(site).items("/apis/ray.io/v1/rayservices")
    except NoAccess:
        return  # without a cluster there is no service
    except PipelineError as error:
        lost = ", ".join(taken_away(planned, PROTECTED | NODES)[:4])
        raise InService(
            f"the plan takes away {lost}, and the cluster does not say what uses it ({error}); run cleanup, or make the cluster reachable. "
            "Nothing was touched"
        ) from error
    if found := users(services, planned):
        raise InService(
            f"{'; '.join(found)}: remove the service first (cleanup), or leave the infrastructure as it is. Nothing was touched"
        )
