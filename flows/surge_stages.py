"""The stages of a surge, plain functions that call tasks as in flows/stages.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from prefect import tags
from prefect.client.schemas import State
from prefect.states import Completed, Failed

from blocks.parameters import Service
from drills.definition import NO_FAULT, FaultOfDrill, Load
from drills.runner.watch import NotSteady
from drills.stages.run import Result, raw_folder
from drills.strikes import Strike
from drills.surge import archive
from drills.surge.judgement import Plan, Seen, size_load
from flows.checks import BadParameters
from flows.stages import Run
from tasks.drill.sampling import Sampler, sampled
from tasks.drill.steps import holding_lock, release_lock, take_lock, undo_faults
from tasks.drill.surge import (
    end_loads,
    hold_surge,
    inject_in_growth,
    judge_surge,
    longest,
    remove_run_loads,
    start_loads,
    wait_for_growth,
    wait_for_shrinking,
    wait_until_at_rest,
)
from tasks.service import engines
from tasks.service.rayservice import check_service
from tasks.support.site import Site

NAME = "surge"
"""Name of a surge in the drill's journal."""


def checked_plan(
    site: Site,
    service: Service,
    load: Load | None,
    factor: int,
    surge_s: float,
    grow_within_s: float,
    shrink_within_s: float,
    fault: FaultOfDrill,
    steady_s: float = 20.0,
) -> Plan:
    """Return the plan of the surge, after its parameters were checked.

    Raises:
        BadParameters: the service cannot grow, or its base load alone would make it grow, or its own delays exceed the given times.
    """
    scaling = service.scaling
    if scaling is None:
        raise BadParameters("the service has no scaling, so no load changes its workers: give service.scaling, and deploy it with that")
    if service.workers >= scaling.max_workers:
        raise BadParameters(f"service.workers is {service.workers} and scaling.max_workers no more than that, so the service cannot grow")
    ongoing = engines.ongoing_requests(scaling, site.block.engine_of(service), service.model)
    base = load or size_load(service.workers, ongoing, factor)
    capacity = service.workers * ongoing
    if base.streams >= capacity:
        raise BadParameters(
            f"{base.streams} live streams are no base load: {service.workers} workers are sized for {capacity:g} requests under way "
            f"({service.workers} × scaling.ongoing_requests), and would be more before the surge"
        )
    nodes_follow = site.block.provisioned and site.infrastructure.inf2_nodes.provisioner == "karpenter"
    if scaling.up_after_s >= grow_within_s:
        raise BadParameters(f"no worker comes within grow_within_s ({grow_within_s:g}): scaling.up_after_s alone is {scaling.up_after_s:g}")
    delays = {"scaling.down_after_s": scaling.down_after_s, "scaling.idle_worker_s": scaling.idle_worker_s}
    if nodes_follow:
        delays["karpenter.empty_for_s"] = site.infrastructure.karpenter.empty_for_s
    if sum(delays.values()) >= shrink_within_s:
        listed = " + ".join(f"{name} ({seconds:g})" for name, seconds in delays.items())
        raise BadParameters(f"nothing is as before within shrink_within_s ({shrink_within_s:g}): {listed} take longer")
    return Plan(
        workers=service.workers,
        max_workers=scaling.max_workers,
        ongoing_requests=ongoing,
        nodes_follow=nodes_follow,
        load=base,
        factor=factor,
        steady_s=steady_s,
        surge_s=surge_s,
        grow_within_s=grow_within_s,
        shrink_within_s=shrink_within_s,
        fault=fault,
    )


def surge(site: Site, service: Service, plan: Plan, run: Run) -> Result:
    """Raise and lower the load, and judge the service. In any case the loads are removed and the lock is released.

    A retried run starts from the beginning: observations of an earlier try do not apply to this one.
    """
    with tags("stage:surge"):
        journal = take_lock(site, service, run.id, NAME, time.time(), go_on=False)
        raw = raw_folder(run.folder, journal)
        names = journal.load_names(plan.factor)
        with holding_lock(site, service, run.id, release_lock) as check:
            try:
                remove_run_loads(site, service, run.id)
                check_service(site, service)
                with sampled(site, service, raw / archive.SAMPLES) as sampler:
                    observed = _run_surge(site, service, plan, names, raw, sampler, check)
            finally:
                # As a state: an error here must not replace the one that ended the surge. A sweep removes what is left.
                undo_faults(site, service, return_state=True)
                remove_run_loads(site, service, run.id, return_state=True)
        return judge_surge(site, service, plan, observed, raw, run.folder, run.name)


def _run_surge(site: Site, service: Service, plan: Plan, names: list[str], raw: Path, sampler: Sampler, check: Callable[[], None]) -> Seen:
    """Run the surge over its base load; returns the observations, without the samples."""
    base, *more = names
    observed = Seen(started=time.time())
    start_loads(site, service, plan, [base], longest(plan, base=True))
    try:
        before = wait_until_at_rest(sampler, plan, check)
    except NotSteady as reason:
        return observed.model_copy(update={"aborted": str(reason), "loads": tuple(end_loads(site, service, plan, [base], raw))})
    surge_at = start_loads(site, service, plan, more, longest(plan, base=False))
    until, answered = surge_at + plan.grow_within_s, {}
    strikes: tuple[Strike, ...] = ()
    if plan.fault != NO_FAULT:
        strikes = inject_in_growth(site, service, sampler, plan, before, until, check)
    if grown := wait_for_growth(sampler, before, until, check):
        answered = hold_surge(site, service, sampler, plan, before, grown, time.time() + plan.surge_s, check)
    ended_at = time.time()
    loads = end_loads(site, service, plan, more, raw)
    wait_for_shrinking(sampler, before, ended_at + plan.shrink_within_s, check)
    stopped_at = time.time()
    loads = [*end_loads(site, service, plan, [base], raw), *loads]
    return observed.model_copy(
        update={
            "surge_at": surge_at,
            "head_deleted_at": strikes[0].at if strikes else None,
            "strikes": strikes,
            "head_uid": before.head.uid if before.head else "",
            "ended_at": ended_at,
            "stopped_at": stopped_at,
            "before": before,
            "loads": tuple(loads),
            "answered": answered,
        }
    )


def end_state(result: Result) -> State[Result]:
    """The end state of a run, by the verdict of its surge."""
    if result.passed:
        return Completed(message=f"{result.headline} See {result.folder / archive.PICTURE}", data=result)
    return Failed(name="VerdictFailed", message=f"{result.verdict}: {result.headline} See {result.folder / archive.PICTURE}")
