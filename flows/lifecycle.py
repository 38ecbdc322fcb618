"""Everything, from nothing to a verdict and back to nothing."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas import State

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from drills.definition import Graces, Load, Repeat, Series, Slos, Timing
from flows import stages
from flows.hooks import ask_for_sweep


@flow(name="lifecycle", on_failure=[ask_for_sweep], on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
def lifecycle(
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
    approved: bool = False,
    keep: bool = False,
) -> State:
    """Provision, verify, deploy, drill and clean up. Completed means that the verdict is "passed".

    A failed verdict is a result: it is cleaned up after, and the evidence is kept. An error keeps the infrastructure,
    so that the run can be retried.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform makes.
        service: What is deployed.
        drill: Name of a drill in the catalogue, such as head-pod or head-pod-forced.
        repeat: How often the fault is done, one after the other under one load, each once the service is steady again.
        graces: The grace of each fault: "own", that of the drill; "in-turn", that of the drill and the other in turn.
        stop_at_first_loss: Whether no further fault is done once a request was lost.
        timing: Other durations than the drill's own.
        load: Another load than the drill's own.
        slos: Other promises than the drill's own.
        approved: That Terraform's plan was looked at and may be carried out. Not needed where the target approves by itself.
        keep: Leave everything up at the end.
    """
    run = stages.Run.current()
    try:
        series = Series(repeat=repeat, graces=graces, stop_at_first_loss=stop_at_first_loss)
        definition = stages.drill_of(drill, service, timing, load, slos)
        site = stages.site_of(target, infrastructure, service, definition.load)
        stages.can_have_images(site)
        with stages.bundled(site, service, run):
            planned = stages.plan(site, approved)
            building = stages.start_building(site, service)
            outputs = stages.apply(site, planned)
            stages.verify(site, service, outputs)
            stages.deploy(site, service, outputs, run, building)
            result = stages.drill(site, service, definition, run, series)
            stages.keep(site, service, result)
            if not keep:
                stages.cleanup(site, service, run)
    except stages.REFUSALS as reason:
        return stages.refusal(reason)
    return stages.ending(result)
