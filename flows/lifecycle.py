"""The whole lifecycle: from an empty account to a verdict and back."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas import State
from pydantic import Field

from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from drills.definition import Graces, Load, Repeat, Series, Slos, Timing
from flows import drill_stages, stages
from flows.checks import check_images, checked_drill, checked_site, refusable
from flows.hooks import ask_for_sweep
from flows.runs.approval import Given

EXPIRES_AFTER_H = 24.0
"""Hours after which a lifecycle that ended with an error, and so kept its infrastructure, has been forgotten."""


@flow(name="lifecycle", on_failure=[ask_for_sweep], on_cancellation=[ask_for_sweep], on_crashed=[ask_for_sweep])
@refusable
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
    approved: str = "",
    may_replace: bool = False,
    approval_within_min: Annotated[int, Field(ge=0, le=1440)] = 30,
    keep: bool = False,
) -> State:
    """Provision, verify, deploy, drill and clean up. Completed means that the verdict is "passed".

    A failed verdict cleans up, as any other verdict does: it is a result, and its evidence is kept. An error keeps the infrastructure,
    so that the run can be retried.

    Args:
        target: Name of the saved leeward-target block to work on.
        infrastructure: What Terraform creates.
        service: What is deployed.
        drill: Name of a drill in the catalogue, such as head-pod or head-pod-forced.
        repeat: Number of faults, one after the other under one load, each after the service is steady again.
        graces: Grace period of each fault: "own", that of the drill; "in-turn", alternating between that of the drill and the other.
        stop_at_first_loss: Whether no further fault is done once a request was lost.
        timing: Durations to use instead of the drill's own.
        load: Load to use instead of the drill's own.
        slos: Promises to use instead of the drill's own.
        approved: Digest of the plan that a person has read and approves, as the plan's artifact names it. Another plan asks again. Not
            needed if the target approves plans itself.
        may_replace: Whether the approved plan may also replace or destroy the cluster, its network or its Redis: the second yes.
        approval_within_min: Minutes for which the run waits, paused, for an approval in Prefect's UI. 0: it ends as NotApproved at once.
        keep: Whether to leave everything running at the end.
    """
    run = stages.Run.current()
    series = Series(repeat=repeat, graces=graces, stop_at_first_loss=stop_at_first_loss)
    definition = checked_drill(drill, service, timing, load, slos)
    site = checked_site(target, infrastructure, service, definition.load)
    check_images(site)
    with stages.debug_bundle_on_error(site, service, run):
        stages.check(site, service, provisioning=True)
        planned = stages.plan(site, Given(approved, may_replace, approval_within_min))
        building = stages.start_building(site, service)
        outputs = stages.apply(site, planned, 0 if keep else EXPIRES_AFTER_H)
        stages.verify(site, service, outputs)
        stages.deploy(site, service, outputs, run, building)
        result = drill_stages.drill(site, service, definition, run, series)
        drill_stages.keep(site, service, result, run)
        # Any verdict gets here and cleans up; an error has left this block before, and keeps. An error after recorded losses is a failed
        # verdict, too (drill_stages.drill).
        if not keep:
            stages.cleanup(site, service, run)
        else:
            stages.show_what_it_costs(site)
    return drill_stages.end_state(result)
