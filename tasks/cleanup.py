"""Removal: of the service before its cluster, of what a dead drill left, and the audit of what is left in AWS afterwards."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import get_run_logger

from blocks.errors import Permanent, TimedOut
from blocks.parameters import Service
from blocks.target import NoSuchTarget
from drills.kubernetes import ownership
from drills.kubernetes.api import Api
from drills.runner import api_key, faults, journal
from drills.runner.journal import Lock
from drills.runner.waiting import Pending, Until
from drills.subject import HOME
from tasks.aws import balancers
from tasks.aws.account import Clients
from tasks.aws.leftovers import leftovers
from tasks.cluster.access import UNRESPONSIVE_FOR_S, NoAccess, Unresponsive, connect
from tasks.cost import spent
from tasks.service import chat, compilation, rayservice
from tasks.support.progress import Progress
from tasks.support.site import Site, forget_connections
from tasks.support.step import step

SERVICE_GONE_WITHIN_S = 180.0
NAMESPACES_GONE_WITHIN_S = 300.0
AUDIT_WITHIN_S = 120.0
"""Seconds. AWS lists deleted resources for a moment."""


class LeftBehind(Permanent):
    """Resources of the stack exist after everything was removed."""


def remove_workloads(api: Api, service: Service, progress: Progress) -> None:
    """Remove the service, its loads and its chat. Workloads of others in the same namespaces stay.

    Raises:
        TimedOut: the service was not removed in time.
    """
    journal.remove_loads_of(api, service.subject)
    chat.remove(api, service)
    compilation.remove(api, service)
    rayservice.remove(api, service, SERVICE_GONE_WITHIN_S, progress.show_pending)


def remove_namespaces(api: Api, service: Service, progress: Progress) -> list[str]:
    """Delete the namespaces that this pipeline created, with everything in them. A namespace that another service needs, or that was
    there before, loses only what this service had in it. Returns which created namespaces stay, and what needs them.

    Raises:
        TimedOut: they were not deleted in time.
    """
    rayservice.remove_companions(api, service)
    journal.remove_journal(api, service.subject)
    needed = {
        service.namespace: rayservice.others(api, service),
        chat.NAMESPACE: [chat.NAMESPACE] if api.find(chat.DEPLOYMENT) else [],
        HOME: journal.services_with_journals(api),
    }
    if not needed[HOME]:
        api_key.remove(api, HOME)
    made = [name for name in needed if ownership.made_namespace(api, name)]
    going = [name for name in made if not needed[name]]
    for name in going:
        api.delete(f"{ownership.NAMESPACES}/{name}")

    def probe() -> bool | Pending:
        left = [name for name in going if api.find(f"{ownership.NAMESPACES}/{name}")]
        return Pending(f"still there: {', '.join(left)}") if left else True

    Until("namespaces to go", probe, NAMESPACES_GONE_WITHIN_S, 2.0, progress.show_pending).wait()
    return [f"{name}, with {', '.join(needed[name])} in it" for name in made if name not in going]


@step("remove service", deadline_s=900)
def remove_service(site: Site, service: Service, owner: str) -> str:
    """Remove the service from its cluster. If the cluster is going to be destroyed too, objects that resist deletion, namespaces and an
    unreachable API server are tolerated.

    Raises:
        InUse: another run drills or changes the service.
    """
    progress, destroyed_too = Progress("remove-service"), site.block.provisioned
    try:
        api = connect(site, progress.show_pending, unresponsive_for_s=UNRESPONSIVE_FOR_S)
    except Unresponsive as error:
        get_run_logger().warning(
            "skipped, because the cluster is destroyed next: the check whether another run uses the service, and its removal. %s", error
        )
        return f"skipped: {error}"
    except NoAccess as error:
        return f"nothing to remove: {error}"
    journal.wait_until_unlocked(api, service.subject, owner)
    try:
        remove_workloads(api, service, progress)
        if not destroyed_too:
            for kept in remove_namespaces(api, service, progress):
                get_run_logger().info("kept: namespace %s", kept)
    except TimedOut as error:
        if not destroyed_too:
            raise
        get_run_logger().warning("going on, because the cluster is destroyed next: %s", error)
    progress.show(100, "the service is gone")
    return "removed"


@step("sweep", deadline_s=300)
def sweep_drill(site: Site, service: Service, owner: str) -> list[str]:
    """Remove what the drill of run `owner` left in the cluster: loads and lock; faults that last are undone, and its journal is closed.
    Returns what was done.

    Without an owner: what any dead run left. A deleted head needs no repair: KubeRay creates a new one.

    Raises:
        UndoFailed: a fault lasts and could not be undone; the journal stays open.
    """
    try:
        api = connect(site)
    except (NoSuchTarget, NoAccess) as error:
        get_run_logger().info("nothing to sweep: %s", error)
        return [f"nothing to sweep: {error}"]
    done = []
    holder = Lock(api, service.subject, owner).holder()
    found = journal.read(api, service.subject)
    left = found if found and found.state == "open" and (found.owner == owner or (not owner and holder != found.owner)) else None
    if run := owner or (left.owner if left else ""):
        # Even if the journal is closed: a run that could not remove its loads may have closed it all the same.
        done += [f"load {name} removed" for name in journal.remove_loads(api, service.subject, run)]
    if left:
        done += [f"undone: {what}" for what in faults.undo(api, service.subject)]
        left = journal.read(api, service.subject) or left
        journal.write(api, service.subject, left.model_copy(update={"state": "closed"}))
        done.append("journal closed")
    if owner and holder == owner:
        Lock(api, service.subject, owner).release()
        done.append("lock released")
    get_run_logger().info("%s", "; ".join(done) or "nothing was left")
    return done


def left_of(session: Clients, name: str) -> list[str]:
    """Everything that is left of the stack in AWS, with the load balancers of anybody in its network."""
    return [*map(str, leftovers(session, name)), *map(str, balancers.of_stack(session, name))]


@step("audit", deadline_s=300)
def audit(site: Site, failed: str = "") -> None:
    """Check that nothing of the stack is left in AWS but its bucket of state and evidence.

    Args:
        failed: Why the destruction failed; then nothing is waited for.

    Raises:
        LeftBehind: something is left; the message lists it with what it costs.
    """
    block = site.block
    forget_connections()
    if block.aws is None or not block.provisioned:
        return
    session, progress, name = block.session(), Progress("audit"), site.infrastructure.name

    def probe() -> bool | Pending:
        left = left_of(session, name)
        return Pending("; ".join(left)) if left else True

    try:
        Until("everything to be gone", probe, AUDIT_WITHIN_S if not failed else 1.0, 5.0, progress.show_pending).wait()
    except TimedOut as error:
        cost = spent.described(name, spent.costs(session, name, datetime.now(UTC)))
        raise LeftBehind(f"{failed}{'. ' if failed else ''}{error}. {cost}. Delete it by hand, then run cleanup again") from error
    progress.show(100, "nothing is left")
