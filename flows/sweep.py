"""After a run that ended badly: its drill's load, lock and journal are put away. The infrastructure stays."""

from __future__ import annotations

from prefect import flow

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from flows import stages
from flows.silence import end_if_silent
from tasks.support.site import Site


@flow(name="sweep")
def sweep(
    target: str,
    infrastructure: Infrastructure = INFRASTRUCTURE,
    service: Service = SERVICE,
    owner: str = "",
    silent: bool = False,
) -> list[str]:
    """Remove what a drill left in the cluster: its loads, its lock, its open journal. A run that goes on is left alone.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform made; only its name matters.
        service: What was drilled.
        owner: Id of the flow run whose drill is swept; empty: of any run that is dead.
        silent: That the owner shows as going on and may be gone: it is ended, unless it gives a sign of life within a minute or so.
    """
    if silent:
        end_if_silent(owner)
    return stages.sweep(Site(target=target, infrastructure=infrastructure), service, owner)
