"""A surge: a drill in which the load of a service that scales is multiplied for a while."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas import State
from pydantic import Field

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from drills.definition import NO_FAULT, FaultOfDrill, Load
from flows import drill_stages, stages
from flows.checks import checked_site, checked_surge, refusable
from flows.hooks import ask_for_sweep


@flow(name="surge", on_failure=[ask_for_sweep], on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
@refusable
def surge(
    target: str,
    infrastructure: Infrastructure = INFRASTRUCTURE,
    service: Service = SERVICE,
    load: Load | None = None,
    factor: Annotated[int, Field(ge=2, le=10)] = 2,
    surge_s: Annotated[float, Field(ge=10, le=1800)] = 60,
    grow_within_s: Annotated[float, Field(ge=30, le=3600)] = 600,
    shrink_within_s: Annotated[float, Field(ge=60, le=3600)] = 900,
    fault: FaultOfDrill = NO_FAULT,
) -> State:
    """Multiply the load, watch the service grow, remove the load, watch it shrink, and judge every request. Completed means that the
    verdict is "passed".

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform created.
        service: What runs there, as it was deployed; with scaling.
        load: The base load. Empty: one that the service can answer without growing, calculated from its scaling and the factor.
        factor: Load during the surge, as a multiple of the base load.
        surge_s: Seconds for which the surge goes on after a new worker answers.
        grow_within_s: Seconds within which a new worker must answer.
        shrink_within_s: Seconds from the end of the surge within which workers and nodes must be as before.
        fault: Name of the drill whose fault is done as soon as a new worker starts, such as head-pod; none for no fault.
    """
    run = stages.Run.current()
    site = checked_site(target, infrastructure, service, load)
    definition = checked_surge(site, service, load, factor, surge_s, grow_within_s, shrink_within_s, fault)
    with stages.debug_bundle_on_error(site, service, run):
        result = drill_stages.drill(site, service, definition, run)
        drill_stages.keep(site, service, result, run)
    return drill_stages.end_state(result)
