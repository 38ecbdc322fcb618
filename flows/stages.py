"""The stages that the flows are made of: plain functions that call tasks, so that a retry knows one run and no sub-runs.

Terraform, and whatever else is long, is called directly, on the main thread, where a cancellation and a deadline reach
it. Only what may be left behind is submitted: building images while AWS is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar
from uuid import UUID

from prefect import Task, get_run_logger, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from blocks.errors import Permanent, PipelineError
from blocks.parameters import Infrastructure, Service
from blocks.target import NoSuchTarget
from drills.definition import Drill, Load, Series, Slos, Timing, UnknownDrill
from drills.series import Early
from tasks.cleanup import audit, remove_service, sweep_drill
from tasks.cluster.checks import check_cluster, check_quotas
from tasks.cluster.karpenter import install_karpenter, remove_karpenter_nodes
from tasks.cluster.kuberay import install_kuberay
from tasks.cluster.neuron import install_device_plugin
from tasks.debug import collect_debug
from tasks.drill.evidence import ONCE, Result, folder_for, judge, keep_evidence, raw_folder
from tasks.drill.faults import NothingToBreak, check_known, inject_fault
from tasks.drill.journal import Journal, hold_lock, keeping, let_go_of_lock, release_lock, take_lock
from tasks.drill.load_job import LoadFailed, start_load, stop_load
from tasks.drill.raw_evidence import RawEvidence
from tasks.drill.watch import NotSteady, StoppedAtLoss, collect_records, hold_steady, observe_recovery
from tasks.images.publish import ImageRefs, build_images, publish_images
from tasks.service import engines
from tasks.service.chat import deploy_chat, remove_chat
from tasks.service.preflight import preflight
from tasks.service.rayservice import apply_service, check_service, find_images, wait_for_service
from tasks.service.refresh import (
    OldNode,
    Replaced,
    Which,
    add_worker,
    find_old_nodes,
    remove_node,
    retire_worker,
    settle_workers,
    show_refresh,
)
from tasks.service.sizing import size_service
from tasks.support.progress import Part, Progress
from tasks.support.site import Site
from tasks.terraform.infrastructure import (
    Change,
    Outputs,
    PlanSummary,
    apply_infrastructure,
    destroy_infrastructure,
    infrastructure_outputs,
    plan_infrastructure,
)

P = ParamSpec("P")
R = TypeVar("R")


class NotApproved(Permanent):
    """The plan needs a person's approval."""


class BadParameters(Permanent):
    """The parameters do not fit together, or not the target."""


KARPENTERS_NODES = "aws_iam_role.karpenter_node[0]"
"""What no node of Karpenter's can do without, in terraform/karpenter.tf."""
BROKEN = "broken"
"""Under this name the first page of an attempt's notebook has what became of its faults."""
REFUSALS = (NotApproved, BadParameters, NoSuchTarget)
"""Nothing was touched, and nothing is to be swept; hooks know them by name."""


def refusal(reason: Exception) -> State:
    """The state of a run that was refused."""
    return Failed(name=type(reason).__name__, message=str(reason))


@dataclass(frozen=True, slots=True)
class Run:
    """This flow run."""

    id: str
    name: str

    @classmethod
    def current(cls) -> Run:
        """The run that is going on."""
        return cls(str(flow_run.id), str(flow_run.name))

    @property
    def folder(self) -> Path:
        """Where its evidence lies."""
        return folder_for(self.name, self.id)


def site_of(target: str, infrastructure: Infrastructure, service: Service | None = None, load: Load | None = None) -> Site:
    """The site, once everything that can be refused has been looked at.

    Raises:
        NoSuchTarget: no such target is saved.
        BadParameters: the service needs more or larger nodes than there will be, or a Redis that is not made, or its replicas are
            sized for more than they take, or the load wants longer answers than they give.
    """
    site = Site(target=target, infrastructure=infrastructure)
    if service is None:
        return site
    engine = site.block.engine_of(service)
    gives = engines.needs(engine)
    if service.scaling is not None and engines.ongoing_requests(service.scaling, engine) > gives.slots:
        raise BadParameters(
            f"scaling.ongoing_requests is {service.scaling.ongoing_requests:g}, and the engine {engine} answers {gives.slots} "
            "requests at once: all others would wait, and no replica come for them"
        )
    if load is not None and (longest := max(load.short_tokens, load.stream_tokens)) > gives.tokens:
        raise BadParameters(
            f"the load asks for answers of {longest} tokens, and the engine {engine} gives {gives.tokens} at most: ask for fewer"
        )
    made = site.block.provisioned
    if service.gcs_fault_tolerance and site.block.redis is None and not (made and infrastructure.enable_gcs_ha):
        raise BadParameters(
            "gcs_fault_tolerance of the service needs a Redis: "
            + ("set enable_gcs_ha of the infrastructure" if made else "give the target one")
        )
    if not made:
        return site
    nodes = infrastructure.inf2_nodes
    if service.most_workers > nodes.count:
        raise BadParameters(f"{service.most_workers} workers need as many inf2 nodes, and inf2_nodes.count is {nodes.count}")
    if reason := engines.misfit(nodes, engine):
        raise BadParameters(reason)
    return site


def can_have_images(site: Site) -> None:
    """There will be images for a service on this site.

    Raises:
        BadParameters: none is ready, and only a cluster that Terraform makes has a repository.
    """
    if not site.block.provisioned and not site.block.images.ready:
        raise BadParameters(f"target {site.target!r} has no repository to push images to: save it again with image, a ready one")


def drill_of(name: str, service: Service, timing: Timing | None, load: Load | None, slos: Slos | None) -> Drill:
    """The drill by its name, with what was changed, for a service of that size.

    Raises:
        BadParameters: there is no such drill, nobody can do its fault, or recovery is not waited for as long as it may take.
    """
    try:
        drill = Drill.named(name, timing=timing, load=load, slos=slos)
    except UnknownDrill as error:
        raise BadParameters(str(error)) from error
    check_known(drill.fault)
    waited, promised = drill.timing.observe_timeout_s, drill.slos.max_recovery_s
    if waited < promised:
        raise BadParameters(
            f"recovery is promised within slos.max_recovery_s ({promised:g}) and would be waited for no longer than "
            f"timing.observe_timeout_s ({waited:g}): raise that, or promise less"
        )
    least = {"min_endpoints": service.workers, "min_replicas": service.workers, "min_nodes": service.workers}
    return drill.model_copy(update={"steady_state": drill.steady_state.model_copy(update=least)})


def plan(site: Site, approved: bool) -> PlanSummary | None:
    """What Terraform will do, shown and approved; None where it has nothing to do with the cluster.

    Raises:
        NotApproved: a person has to look first. Nothing was made that costs money.
        BadParameters: Karpenter's nodes would stay, without what they stand on.
    """
    target = site.block
    if not target.provisioned:
        return None
    with tags("stage:provision"):
        check_quotas(site)
        planned = plan_infrastructure(target, site.infrastructure)
    if Change(KARPENTERS_NODES, "delete") in planned.changes:
        raise BadParameters(
            f"the inf2 nodes of {site.infrastructure.name} are Karpenter's: Terraform would destroy the role that they serve with, and not "
            'them. Leave inf2_nodes.provisioner at "karpenter", or run cleanup first; nothing was touched'
        )
    if not (planned.empty or approved or target.auto_approve):
        raise NotApproved(
            f"Terraform plans {planned}; nothing was made. Look at the artifact terraform-plan-{site.infrastructure.name} of this run, "
            "then run it again with approved=true"
        )
    return planned


def apply(site: Site, planned: PlanSummary | None) -> Outputs | None:
    """The infrastructure is as planned, its inf2 nodes offer their chips, and Karpenter can add nodes to it."""
    if planned is None:
        return None
    with tags("stage:provision"):
        outputs = apply_infrastructure(site.block, site.infrastructure, planned)
        # Before Karpenter: what runs on every node is counted when it chooses one, and no node waits for its chips.
        install_device_plugin(site)
        install_karpenter(site, outputs)
    return outputs


def outputs_of(site: Site) -> Outputs | None:
    """What an earlier provisioning made; None where Terraform has nothing to do with the cluster."""
    return infrastructure_outputs(site.block, site.infrastructure) if site.block.provisioned else None


def start_building(site: Site, service: Service) -> PrefectFuture[list[str]]:
    """The images are being built, in the background."""
    with tags("stage:deploy"):
        return build_images.submit(site, service)


def verify(site: Site, service: Service, outputs: Outputs | None) -> None:
    """The cluster can take the service."""
    with tags("stage:verify"):
        preflight(site, service, outputs)
        check_cluster(site, service, outputs)


def deploy(site: Site, service: Service, outputs: Outputs | None, run: Run, building: PrefectFuture[list[str]] | None = None) -> ImageRefs:
    """The service serves, and the chat answers, or is gone where none is wanted. No other run drills or changes it meanwhile."""
    with tags("stage:deploy"):
        hold_lock(site, service, run.id)
        with holding(site, service, run, let_go_of_lock) as check:
            operator = install_kuberay.submit(site)
            if building is not None:
                building.result()
            images = publish_images(site, service, outputs.serving_repository_url if outputs else None)
            operator.result()
            check()
            apply_service(site, service, images, outputs)
            size_service(site, service)
            chat = deploy_chat.submit(site, service, images.chat) if images.chat else None
            if chat is None:
                remove_chat(site, service)
            wait_for_service(site, service)
            if chat is not None:
                chat.result()
    return images


@contextmanager
def holding(site: Site, service: Service, run: Run, give_back: Task[[Site, Service, str], None]) -> Iterator[Callable[[], None]]:
    """The run keeps the lock that it took, and gives it back at the end; what it yields raises LockLost once another run has it."""
    try:
        with keeping(site, service, run.id) as check:
            yield check
    finally:
        # After the last renewal; and whatever ended the work must be told, not that this failed too.
        give_back(site, service, run.id, return_state=True)


def drill(site: Site, service: Service, definition: Drill, run: Run, series: Series = ONCE) -> Result:
    """The drill was done and judged, each fault of its series after the other; whatever happened, its load is gone and its lock free.

    An error after the first fault is raised in the end, once what was measured until then is kept; but losses that are on record are a
    verdict. The journal stays open until all is judged: a run that dies meanwhile and comes back goes on with that.
    """
    with tags("stage:drill"):
        journal = take_lock(site, service, run.id, definition.name, time.time())
        folder = raw_folder(run.folder, journal)
        with holding(site, service, run, release_lock) as check:
            try:
                broken = Broken.noted(folder) or measure(site, service, definition, series, journal, folder, check)
            finally:
                # Whatever ended the drill must be told, not that this failed too; the sweep comes for what is left.
                stop_load(site, journal, return_state=True)
            result: Result = judge(site, service, broken.journal, definition, run.folder, run.name, broken.aborted, series, broken.early)
        if broken.error is not None and result.verdict != "failed":
            keep_evidence(site, result.folder, return_state=True)
            raise broken.error
    return result


def measure(
    site: Site, service: Service, definition: Drill, series: Series, journal: Journal, folder: Path, check: Callable[[], None]
) -> Broken:
    """The faults were done under load and every request is on record; what became of them is noted for a run that has only to judge."""
    # Once a fault is in, there is a verdict: neither the service nor its load has to be well for that.
    if journal.fault is None:
        check_service(site, service)
        start_load(site, service, journal, find_images(site, service).head, definition, series.repeat)
    broken = break_it(site, service, definition, series, journal, folder, check)
    if broken.error is None:
        collect_records(site, service, broken.journal, definition, folder)
    else:
        collect_records(site, service, broken.journal, definition, folder, return_state=True)
    broken.note(folder)
    return broken


@dataclass(frozen=True, slots=True)
class Broken:
    """What became of the faults of a series."""

    journal: Journal
    early: Early | None = None
    """Why it ended before its last fault."""
    aborted: str = ""
    """Why its last fault was not watched to the end, or not done when it was the first."""
    error: PipelineError | None = None
    """What ended it and is to be raised once all is judged."""

    def note(self, folder: Path) -> None:
        """All faults are done and the load may end: a run that comes back finds this in the attempt's notebook."""
        early, error = self.early and self.early.model_dump(), f"{type(self.error).__name__}: {self.error}" if self.error else ""
        told = {"journal": self.journal.model_dump(mode="json"), "early": early, "aborted": self.aborted, "error": error}
        RawEvidence(folder).add(BROKEN, told)

    @classmethod
    def noted(cls, folder: Path) -> Broken | None:
        """What was noted there; None while faults are still to be done or watched."""
        told = RawEvidence(folder).last(BROKEN)
        if told is None:
            return None
        early, error = told["early"] and Early.model_validate(told["early"]), told["error"] and Permanent(told["error"])
        return cls(Journal.model_validate(told["journal"]), early, told["aborted"], error or None)


def break_it(
    site: Site, service: Service, definition: Drill, series: Series, journal: Journal, folder: Path, check: Callable[[], None]
) -> Broken:
    """All faults of the series were done, each in a steady state and watched until the service had recovered; or why it ended before.

    A run that is tried again goes on from what its journal says.
    """
    whole = Progress("series") if series.repeat > 1 else None
    if whole:
        whole.say(0, f"fault 1 of {series.repeat}")  # of the flow run, not of the first task that has something to say
    broken = Broken(journal)
    for number in range(journal.next_fault, series.repeat + 1):
        broken = _break_once(site, service, definition, series, broken.journal, folder, check, number, whole)
        if broken.early:
            break
    if whole:
        whole.say(100, f"{len(broken.journal.faults)} of {series.repeat} faults done")
    return broken


def _break_once(
    site: Site,
    service: Service,
    definition: Drill,
    series: Series,
    journal: Journal,
    folder: Path,
    check: Callable[[], None],
    number: int,
    whole: Progress | None,
) -> Broken:
    """The fault of that number was done, in a steady state, and watched until the service had recovered."""
    struck, stop = series.drill(definition, number), series.stop_at_first_loss
    steady, recovery = (whole and Part(whole, number, series.repeat, *share) for share in ((0, 0.2), (0.2, 1)))
    try:
        journal = named(hold_steady, series, number)(site, service, journal, struck, folder, check, number, stop, steady)
        journal = named(inject_fault, series, number)(site, service, struck, journal.owner, number)
        recovered = named(observe_recovery, series, number)(site, service, journal, struck, folder, check, recovery)
    except NotSteady as reason:
        ended_by: Literal["service", "request"] = "request" if isinstance(reason, StoppedAtLoss) else "service"
        return Broken(journal, Early(reason=str(reason), by=ended_by), "" if journal.fault else str(reason))
    except PipelineError as error:
        if journal.fault is None:
            raise
        watched = len(journal.faults) < number
        by: Literal["service", "measurement"] = "service" if isinstance(error, NothingToBreak) else "measurement"
        # A head or a load that is gone is a result, and no error of the pipeline's.
        result = watched and isinstance(error, NothingToBreak | LoadFailed)
        told = str(error) if result else f"{type(error).__name__}: {error}"
        return Broken(journal, Early(reason=told, by=by), "" if watched else told, None if result else error)
    if recovered is None and number < series.repeat:
        return Broken(journal, Early(reason=f"the service did not recover from fault {number}", by="service"))
    return Broken(journal)


def named(task: Task[P, R], series: Series, number: int) -> Task[P, R]:
    """The task; in a series its runs are named by the number of the fault, too."""
    return task.with_options(task_run_name=f"{task.name} {number} of {series.repeat}") if series.repeat > 1 else task


def sweep(site: Site, service: Service, owner: str) -> list[str]:
    """Nothing of the owner's drill is left in the cluster, unless that run goes on."""
    with tags("stage:sweep"):
        if owner and still_going(owner):
            get_run_logger().info("run %s goes on; nothing is swept", owner)
            return []
        return sweep_drill(site, service, owner)


def still_going(owner: str) -> bool:
    """Whether that flow run has not ended."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(owner)).state
        except (ObjectNotFound, ValueError):
            return False
    return state is not None and not state.is_final() and not state.is_cancelling()


def cleanup(site: Site, service: Service, run: Run) -> None:
    """Nothing is left but the bucket with state and evidence."""
    with tags("stage:cleanup"):
        remove_service(site, service, run.id)
        if site.block.provisioned:
            remove_karpenter_nodes(site)
            destroy_infrastructure(site.block, site.infrastructure)
        audit(site)


def keep(site: Site, service: Service, result: Result) -> None:
    """The evidence is kept where the cluster's end does not reach it; with a debug bundle unless the drill passed."""
    with tags("stage:drill"):
        if not result.passed:
            # It may use up its time; the evidence is kept all the same.
            collect_debug(site, service, result.folder, return_state=True)
        keep_evidence(site, result.folder)


def ending(result: Result) -> State[Result]:
    """The state of a run by its drill's verdict."""
    if result.passed:
        return Completed(message=result.headline, data=result)
    return Failed(name="VerdictFailed", message=f"{result.verdict}: {result.headline} See {result.folder / result.page}")


@contextmanager
def bundled(site: Site, service: Service, run: Run) -> Iterator[None]:
    """An error on the way leaves a debug bundle, and the infrastructure as it is, for a retry."""
    try:
        yield
    except REFUSALS:
        raise
    except Exception:
        with tags("stage:debug"):
            collect_debug(site, service, run.folder, return_state=True)
        get_run_logger().error("the infrastructure is kept for a retry; what was seen lies in %s", run.folder / "debug")
        raise


def refresh(site: Site, service: Service, which: Which, run: Run) -> list[Replaced]:
    """The old nodes of the model are replaced, one after the other, and no drill ran meanwhile. Left as it is by an error, and
    finished by the next run."""
    done: list[Replaced] = []
    with tags("stage:refresh"):
        take_lock(site, service, run.id, "refresh", time.time())
        with holding(site, service, run, release_lock) as check:
            for node in find_old_nodes(site, service, which, run.id):
                done.append(replace_node(site, service, node, check))
                show_refresh(done)
            if not done:
                settle_workers(site, service, check)
    return done


def replace_node(site: Site, service: Service, node: OldNode, check: Callable[[], None]) -> Replaced:
    """The node is gone and what ran on it runs on another one; `check` is asked at every look and may end it by an error."""
    began = time.time()
    moved = add_worker(site, service, node, check)
    retire_worker(site, service, node, check)
    newest = settle_workers(site, service, check)
    remove_node(site, node, check)
    return Replaced(old=node.name, new=newest if moved else "", seconds=time.time() - began)
