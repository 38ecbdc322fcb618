"""One drill on a service that runs."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas import State

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from drills.definition import Graces, Load, Repeat, Series, Slos, Timing
from flows import stages
from flows.hooks import ask_for_sweep


@flow(name="drill", on_failure=[ask_for_sweep], on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
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
        infrastructure: What Terraform made.
        service: What runs there.
        drill: Name of a drill in the catalogue, such as head-pod or head-pod-forced.
        repeat: How often the fault is done, one after the other under one load, each once the service is steady again.
        graces: The grace of each fault: "own", that of the drill; "in-turn", that of the drill and the other in turn.
        stop_at_first_loss: Whether no further fault is done once a request was lost.
        timing: Other durations than the drill's own.
        load: Another load than the drill's own.
        slos: Other promises than the drill's own.
    """
    run = stages.Run.current()
    try:
        series = Series(repeat=repeat, graces=graces, stop_at_first_loss=stop_at_first_loss)
        definition = stages.drill_of(drill, service, timing, load, slos)
        site = stages.site_of(target, infrastructure, service, definition.load)
    except stages.REFUSALS as reason:
        return stages.refusal(reason)
    with stages.bundled(site, service, run):
        result = stages.drill(site, service, definition, run, series)
        stages.keep(site, service, result)
    return stages.ending(result)
