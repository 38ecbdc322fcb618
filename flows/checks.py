"""Parameter checks of the flows, and how a run that is refused ends: all flows refuse in the same way, before anything is changed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect.client.schemas import State
from prefect.states import Failed

from blocks.errors import Permanent
from blocks.parameters import MODELS, Infrastructure, Service
from blocks.target import NoSuchTarget
from drills.definition import Drill, FaultOfDrill, Load, Slos, Timing, UnknownDrill
from drills.faults import Surge
from drills.runner.faults import UnknownFault, check_known
from drills.surge import size_load, surge_drill
from tasks.cluster.in_use import InService
from tasks.prerequisites.check import PrerequisitesMissing
from tasks.service import engines
from tasks.support.site import Site

P = ParamSpec("P")
R = TypeVar("R")


class NotApproved(Permanent):
    """The plan needs a person's approval."""


class BadParameters(Permanent):
    """The parameters do not fit together, or do not fit the target."""


REFUSALS = (NotApproved, BadParameters, PrerequisitesMissing, InService, NoSuchTarget)
"""Errors that refuse a run: nothing was changed, and nothing is to be swept. The hooks know them by their names."""


def refusable(run: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """Decorate a flow's function so that a refusal ends the run as Failed, with the refusal's name as the name of the state."""

    @wraps(run)
    def run_or_refuse(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        try:
            return run(*args, **kwargs)
        except REFUSALS as reason:
            return Failed(name=type(reason).__name__, message=str(reason))

    # Prefect resolves annotations that are text in the module of the wrapper, where the flow's names are not known.
    run_or_refuse.__signature__ = inspect.signature(run, eval_str=True)  # type: ignore[attr-defined]
    return run_or_refuse


def checked_site(target: str, infrastructure: Infrastructure, service: Service | None = None, load: Load | None = None) -> Site:
    """Return the site, after all parameters were checked.

    Raises:
        NoSuchTarget: no such target is saved.
        BadParameters: the service needs more or larger nodes than there will be, or a Redis that there will not be; or its replicas
            are sized for more requests than they answer at once; or its engine computes another model; or the load
            asks for longer answers than are given; or there is a way in from outside and no key.
    """
    site = Site(target=target, infrastructure=infrastructure)
    block = site.block
    if service is None:
        return site
    engine = block.engine_of(service)
    _check_model(site, service)
    if service.ingress is not None and block.api_key is None:
        raise BadParameters("an ingress lets others reach the model, and the target has no api_key: save it again with one")
    limits = engines.needs(engine, service.model)
    if service.scaling is not None and engines.ongoing_requests(service.scaling, engine, service.model) > limits.slots:
        raise BadParameters(
            f"scaling.ongoing_requests is {service.scaling.ongoing_requests:g}, and the engine {engine} answers {limits.slots} "
            "requests at once: all others would wait, and no replica would be added for them"
        )
    if load is not None and (longest := max(load.short_tokens, load.stream_tokens)) > limits.tokens:
        raise BadParameters(
            f"the load asks for answers of {longest} tokens, and the engine {engine} gives {limits.tokens} at most: ask for fewer"
        )
    provisioned = site.block.provisioned
    if service.gcs_fault_tolerance and site.block.redis is None and not (provisioned and infrastructure.enable_gcs_ha):
        raise BadParameters(
            "gcs_fault_tolerance of the service needs a Redis: "
            + ("set enable_gcs_ha of the infrastructure" if provisioned else "give the target one")
        )
    if not provisioned:
        return site
    nodes = infrastructure.inf2_nodes
    if service.most_workers > nodes.count * service.workers_per_node:
        needed = math.ceil(service.most_workers / service.workers_per_node)
        raise BadParameters(f"{service.most_workers} workers need {needed} inf2 nodes, and inf2_nodes.count is {nodes.count}")
    if reason := engines.describe_misfit(nodes, engine, service.model, service.workers_per_node):
        raise BadParameters(reason)
    return site


def _check_model(site: Site, service: Service) -> None:
    """Check that the engine can have the model.

    Raises:
        BadParameters: the model is in the image of another engine; or a revision is given, and no model of the hub; or the workers may
            not read its bucket, or have none for what they compile.
    """
    engine = site.block.engine_of(service)
    if service.model in MODELS and engine != "cpu":
        raise BadParameters(f"model {service.model} of the service is for the engine cpu, and this service's engine is {engine}")
    fetched = engines.checkpoint(engine, service.model, service.revision)
    if fetched is None and service.revision:
        raise BadParameters(
            f"revision {service.revision} is one of a model of the hub, and the engine {engine} has none of it: name a model, too"
        )
    if service.compile_ahead and not site.block.provisioned:
        raise BadParameters("compile_ahead needs the bucket of a stack that Terraform creates, and this target's cluster is another's")
    if fetched is None or not fetched.bucket or not site.block.provisioned or fetched.bucket in site.infrastructure.model_buckets:
        return
    own = f"leeward-{site.infrastructure.name}-"
    if not (fetched.bucket.startswith(own) and fetched.model.startswith(f"{engines.S3}{fetched.bucket}/models/")):
        raise BadParameters(
            f"workers may not read {fetched.model}: name its bucket in infrastructure.model_buckets, or copy the model to models/ in the "
            f"stack's own bucket ({own}ACCOUNT-REGION)"
        )


def checked_surge(
    site: Site,
    service: Service,
    load: Load | None,
    factor: int,
    surge_s: float,
    grow_within_s: float,
    shrink_within_s: float,
    fault: FaultOfDrill,
) -> Drill:
    """Return the drill of a surge, after its parameters were checked.

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
    if scaling.up_after_s >= grow_within_s:
        raise BadParameters(f"no worker comes within grow_within_s ({grow_within_s:g}): scaling.up_after_s alone is {scaling.up_after_s:g}")
    nodes_follow = site.block.provisioned and site.infrastructure.inf2_nodes.provisioner == "karpenter"
    delays = {"scaling.down_after_s": scaling.down_after_s, "scaling.idle_worker_s": scaling.idle_worker_s}
    if nodes_follow:
        delays["karpenter.empty_for_s"] = site.infrastructure.karpenter.empty_for_s
    if sum(delays.values()) >= shrink_within_s:
        listed = " + ".join(f"{name} ({seconds:g})" for name, seconds in delays.items())
        raise BadParameters(f"nothing is as before within shrink_within_s ({shrink_within_s:g}): {listed} take longer")
    return surge_drill(
        Surge(factor=factor, hold_s=surge_s, grow_within_s=grow_within_s, carried=capacity),
        base,
        workers=service.workers,
        nodes=service.nodes,
        nodes_follow=nodes_follow,
        shrink_within_s=shrink_within_s,
        fault=fault,
    )


def check_images(site: Site) -> None:
    """Check that there will be images for a service on this site.

    Raises:
        BadParameters: the target has no ready image, and only a cluster that Terraform creates has a repository.
    """
    if not site.block.provisioned and not site.block.images.ready:
        raise BadParameters(f"target {site.target!r} has no repository to push images to: save it again with image, a ready one")


def checked_drill(name: str, service: Service, timing: Timing | None, load: Load | None, slos: Slos | None) -> Drill:
    """Return the drill of that name with the given changes, for a service of that size.

    Raises:
        BadParameters: there is no such drill or fault, or the drill would stop waiting before the promised recovery time.
    """
    try:
        drill = Drill.named(name, timing=timing, load=load, slos=slos)
        check_known(drill.faults)
    except (UnknownDrill, UnknownFault) as error:
        raise BadParameters(str(error)) from error
    waited, promised = drill.timing.observe_timeout_s, drill.slos.max_recovery_s
    if waited < promised:
        raise BadParameters(
            f"recovery is promised within slos.max_recovery_s ({promised:g}) and would be waited for no longer than "
            f"timing.observe_timeout_s ({waited:g}): raise that, or promise less"
        )
    minima = {"min_endpoints": service.workers, "min_replicas": service.workers, "min_nodes": service.nodes}
    return drill.model_copy(update={"steady_state": drill.steady_state.model_copy(update=minima)})
