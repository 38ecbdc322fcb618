"""The stages that the flows share: plan, apply, verify, deploy, clean up, sweep; the drill's are in flows/drill_stages.py.

Stages are plain functions that call tasks, so that a retry concerns one run and no sub-flows. Terraform, and other long tasks, are
called directly, on the main thread, where a cancellation and a deadline can interrupt them. Only tasks that may be abandoned are
submitted, such as building images while AWS creates the infrastructure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect import get_run_logger, tags
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run

from blocks.errors import PipelineError
from blocks.parameters import INFRASTRUCTURE, SERVICE, Infrastructure, Service
from blocks.target import Target
from drills.runner.journal import InUse
from flows.checks import REFUSALS, BadParameters
from flows.runs.approval import Given, require_approval
from tasks.aws.expiry import NotReaped, find_expired, forget_expiry, write_expiry
from tasks.cleanup import audit, remove_service, sweep_drill
from tasks.cluster.checks import check_cluster
from tasks.cluster.foreign import remove_held
from tasks.cluster.in_use import check_in_use
from tasks.cluster.karpenter import install_karpenter, remove_karpenter_nodes
from tasks.cluster.kuberay import install_kuberay
from tasks.cluster.neuron import install_device_plugin
from tasks.cost.estimate import show_estimate
from tasks.cost.spent import show_spent
from tasks.debug import collect_debug
from tasks.drill.evidence import folder_for
from tasks.drill.steps import hold_lock, holding_lock, let_go_of_lock
from tasks.images.publish import ImageRefs, build_images, publish_images
from tasks.prerequisites.check import check_prerequisites
from tasks.service.chat import deploy_chat, remove_chat
from tasks.service.compilation import compile_ahead, give_role
from tasks.service.preflight import preflight
from tasks.service.rayservice import apply_service, check_way_in, wait_for_service
from tasks.service.worker_group import size_service
from tasks.support.site import Site
from tasks.terraform.events import Change, PlanSummary
from tasks.terraform.infrastructure import (
    Outputs,
    apply_infrastructure,
    destroy_infrastructure,
    infrastructure_outputs,
    plan_infrastructure,
)

KARPENTERS_NODES = "aws_iam_role.karpenter_node[0]"
"""Role that every node of Karpenter needs, in terraform/karpenter.tf."""


@dataclass(frozen=True, slots=True)
class Run:
    """The id and name of a flow run."""

    id: str
    name: str

    @classmethod
    def current(cls) -> Run:
        """Return the present flow run."""
        return cls(str(flow_run.id), str(flow_run.name))

    @property
    def folder(self) -> Path:
        """Folder of the run's evidence."""
        return folder_for(self.name, self.id)


def check(site: Site, service: Service, *, provisioning: bool) -> None:
    """Check all that is known to fail a run later, before anything is touched.

    Raises:
        PrerequisitesMissing: something is missing; the message names all of it.
    """
    with tags("stage:check"):
        check_prerequisites(site, service, provisioning=provisioning)
        if provisioning and site.block.provisioned:
            show_estimate(site, service)


def plan(site: Site, given: Given) -> PlanSummary | None:
    """Make Terraform's plan, show it and require its approval; None: Terraform does not create this target's cluster.

    Raises:
        InService: the plan takes away what a service uses. Nothing was touched.
        NotApproved: a person has to approve the plan first. Nothing was created that costs money.
    """
    target = site.block
    if not target.provisioned:
        return None
    with tags("stage:provision"):
        planned = plan_infrastructure(target, site.infrastructure)
        if Change(KARPENTERS_NODES, "delete") in planned.changes:
            raise BadParameters(
                f"the inf2 nodes of {site.infrastructure.name} are Karpenter's: Terraform would destroy their role, and not "
                'them. Leave inf2_nodes.provisioner at "karpenter", or run cleanup first; nothing was touched'
            )
        check_in_use(site, planned)
    require_approval(site, planned, given)
    return planned


def apply(site: Site, planned: PlanSummary | None, expires_after_h: float = 0) -> Outputs | None:
    """Apply the plan, then install the Neuron device plug-in and Karpenter. The stack ends by itself after that time; 0: never."""
    if planned is None:
        return None
    named = site.infrastructure.expires_after_h
    with tags("stage:provision"):
        write_expiry(site, expires_after_h if named is None else named)
        outputs = apply_infrastructure(site.block, site.infrastructure, planned)
        # Before Karpenter: it counts the pods that run on every node when it chooses one, and no node waits for its chips.
        install_device_plugin(site)
        install_karpenter(site, outputs)
    return outputs


def read_outputs(site: Site) -> Outputs | None:
    """Read Terraform's outputs from an earlier run; None: Terraform does not create this target's cluster."""
    return infrastructure_outputs(site.block, site.infrastructure) if site.block.provisioned else None


def start_building(site: Site, service: Service) -> PrefectFuture[list[str]]:
    """Start building the images in the background."""
    with tags("stage:deploy"):
        return build_images.submit(site, service)


def verify(site: Site, service: Service, outputs: Outputs | None) -> None:
    """Check that the service can be deployed to the cluster."""
    with tags("stage:verify"):
        preflight(site, service, outputs)
        check_cluster(site, service, outputs)


def deploy(site: Site, service: Service, outputs: Outputs | None, run: Run, building: PrefectFuture[list[str]] | None = None) -> ImageRefs:
    """Deploy the service and the chat (or remove the chat), and wait until they answer. The lock keeps other runs away meanwhile."""
    with tags("stage:deploy"):
        hold_lock(site, service, run.id)
        with holding_lock(site, service, run.id, let_go_of_lock) as check:
            check_way_in(site, service)
            operator = install_kuberay.submit(site)
            if building is not None:
                building.result()
            images = publish_images(site, service, outputs.serving_repository_url if outputs else None)
            operator.result()
            check()
            give_role(site, service)
            compile_ahead(site, service, images)
            apply_service(site, service, images, outputs)
            size_service(site, service)
            chat = deploy_chat.submit(site, service, images.chat) if images.chat else None
            if chat is None:
                remove_chat(site, service)
            wait_for_service(site, service)
            if chat is not None:
                chat.result()
    return images


def cleanup(site: Site, service: Service, run: Run, remove_foreign: bool = False) -> None:
    """Remove the service and destroy the infrastructure; only the bucket with state and evidence stays."""
    with tags("stage:cleanup"):
        if site.block.provisioned:
            show_spent(site)
        remove_service(site, service, run.id)
        if site.block.provisioned:
            remove_held(site, remove_foreign)
            remove_karpenter_nodes(site)
            try:
                destroy_infrastructure(site.block, site.infrastructure)
            except Exception as error:
                audit(site, failed=" ".join(str(error).split()))  # it names what keeps the rest from being destroyed
                raise
        audit(site)
        forget_expiry(site)


def reap(target: str, warning_min: float, run: Run) -> list[str]:
    """Remove the expired stacks of the target, or of all saved ones; returns their names.

    Raises:
        NotReaped: some could not be removed; all the others were.
    """
    done: list[str] = []
    failed: list[str] = []
    for name in [target] if target else saved_targets():
        block = Site(target=name, infrastructure=INFRASTRUCTURE).block
        if block.aws is None or not block.provisioned:
            continue
        with tags("stage:reap"):
            expired = find_expired(Site(target=name, infrastructure=INFRASTRUCTURE), warning_min)
        for stack in expired:
            site = Site(target=name, infrastructure=Infrastructure(name=stack))
            try:
                cleanup(site, SERVICE, run)
                done.append(stack)
            except InUse as error:
                get_run_logger().warning("%s has expired and is in use; it is tried again next time: %s", stack, error)
            except PipelineError as error:  # the next stack must not wait for this one
                failed.append(f"{stack}: {error}")
    if failed:
        raise NotReaped("; ".join(failed))
    return done


def saved_targets() -> list[str]:
    """Names of all saved targets."""
    with get_client(sync_client=True) as client:
        return sorted(str(each.name) for each in client.read_block_documents_by_type(Target.get_block_type_slug()) if each.name)


def show_what_it_costs(site: Site) -> None:
    """Log what the stack has cost, and what it costs as long as it is left."""
    if site.block.provisioned:
        with tags("stage:cost"):
            show_spent(site)


def sweep(site: Site, service: Service, owner: str) -> list[str]:
    """Remove what the owner's drill left in the cluster, unless that run is still going on."""
    with tags("stage:sweep"):
        if owner and still_going(owner):
            get_run_logger().info("run %s is still going on; nothing is swept", owner)
            return []
        return sweep_drill(site, service, owner)


def still_going(owner: str) -> bool:
    """Whether that flow run is still going on."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(owner)).state
        except (ObjectNotFound, ValueError):
            return False
    return state is not None and not state.is_final() and not state.is_cancelling()


@contextmanager
def debug_bundle_on_error(site: Site, service: Service, run: Run) -> Iterator[None]:
    """After an error, collect a debug bundle and keep the infrastructure, so that the run can be retried."""
    try:
        yield
    except REFUSALS:
        raise
    except Exception:
        with tags("stage:debug"):
            collect_debug(site, service, run.folder, return_state=True)
            if site.block.provisioned:
                show_spent(site, return_state=True)
        get_run_logger().error("the infrastructure is kept for a retry; the debug bundle is in %s", run.folder / "debug")
        raise
