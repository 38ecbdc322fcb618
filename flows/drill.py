"""One drill on a running service."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas import State

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from drills.definition import Graces, Load, Repeat, Series, Slos, Timing
from flows import drill_stages, stages
from flows.checks import checked_drill, checked_site, refusable
from flows.hooks import ask_for_sweep


@flow(name="drill", on_failure=[ask_for_sweep], on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
@refusable
def drill(
    target: str,
    infrastructure: Infrastructure = INFRASTRUCTURE,
    service: Service = SERVICE,
    drill: str = "head-pod",
    repeat: Repeat = 1,
    graces: Graces = "own",
    stop_at_first_loss: bool = False,
    timing: Timing | None = None,
    load: Load | None = None,
    slos: Slos | None = None,
) -> State:
    """Break something under load, watch the recovery, judge. Completed means that the verdict is "passed".

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform created.
        service: What runs there.
        drill: Name of a drill in the catalogue, such as head-pod or head-pod-forced.
        repeat: Number of faults, one after the other under one load, each after the service is steady again.
        graces: Grace period of each fault: "own", that of the drill; "in-turn", alternating between that of the drill and the other.
        stop_at_first_loss: Whether no further fault is done once a request was lost.
        timing: Durations to use instead of the drill's own.
        load: Load to use instead of the drill's own.
        slos: Promises to use instead of the drill's own.
    """
    run = stages.Run.current()
    series = Series(repeat=repeat, graces=graces, stop_at_first_loss=stop_at_first_loss)
    definition = checked_drill(drill, service, timing, load, slos)
    site = checked_site(target, infrastructure, service, definition.load)
    with stages.debug_bundle_on_error(site, service, run):
        result = drill_stages.drill(site, service, definition, run, series)
        drill_stages.keep(site, service, result, run)
    return drill_stages.end_state(result)
