"""After a run that ended badly: its drill's load, lock and journal are put away. The infrastructure stays."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from tasks.site import Site


@flow(name="sweep")
def sweep(target: str, infrastructure: Infrastructure = INFRASTRUCTURE, service: Service = SERVICE, owner: str = "") -> list[str]:
    """Remove what a drill left in the cluster: its load, its lock, its open journal. A run that goes on is left alone.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform made; only its name matters.
        service: What was drilled.
        owner: Id of the flow run whose drill is swept; empty: of any run that is dead.
    """
    return stages.sweep(Site(target=target, infrastructure=infrastructure), service, owner)
