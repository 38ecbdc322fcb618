"""Taking things away: the service before its cluster, what a dead drill left, and an audit of what is left after all."""

from __future__ import annotations

from prefect import get_run_logger

from blocks.errors import Permanent, TimedOut
from blocks.parameters import Service
from blocks.target import NoSuchTarget
from tasks.aws.account import leftovers
from tasks.cluster.access import SILENT_FOR_S, NoWayIn, Silent, enter
from tasks.drill import journal
from tasks.drill.journal import Lock
from tasks.kubernetes import ownership
from tasks.kubernetes.api import Api
from tasks.service import api_key, chat, rayservice
from tasks.support.progress import Progress
from tasks.support.site import Site, forget
from tasks.support.step import step
from tasks.support.waiting import Pending, Until

SERVICE_GONE_WITHIN_S = 180.0
NAMESPACES_GONE_WITHIN_S = 300.0
AUDIT_WITHIN_S = 120.0
"""AWS goes on showing what was deleted for a moment."""


class LeftBehind(Permanent):
    """Something is left after everything was taken down."""


def remove_workloads(api: Api, service: Service, progress: Progress) -> None:
    """No load of the service, no service, no chat of it. What others have beside them stays.

    Raises:
        TimedOut: the service does not go.
    """
    journal.remove_loads_of(api, service)
    chat.remove(api, service)
    rayservice.remove(api, service, SERVICE_GONE_WITHIN_S, progress.look)


def remove_namespaces(api: Api, service: Service, progress: Progress) -> list[str]:
    """The namespaces are gone with all that is in them; what was not made by us, or has another service in it, stays without what this
    one had there. Returns which of ours stay, and for whom.

    Raises:
        TimedOut: they do not go.
    """
    rayservice.remove_beside(api, service)
    journal.remove_journal(api, service)
    needed = {
        service.namespace: rayservice.others(api, service),
        chat.NAMESPACE: [chat.NAMESPACE] if api.find(chat.DEPLOYMENT) else [],
        journal.NAMESPACE: journal.services_with_journals(api),
    }
    if not needed[journal.NAMESPACE]:
        api_key.remove(api, journal.NAMESPACE)
    made = [name for name in needed if ownership.made_namespace(api, name)]
    going = [name for name in made if not needed[name]]
    for name in going:
        api.delete(f"{ownership.NAMESPACES}/{name}")

    def probe() -> bool | Pending:
        left = [name for name in going if api.find(f"{ownership.NAMESPACES}/{name}")]
        return Pending(f"still there: {', '.join(left)}") if left else True

    Until("namespaces to go", probe, NAMESPACES_GONE_WITHIN_S, 2.0, progress.look).wait()
    return [f"{name}, with {', '.join(needed[name])} in it" for name in made if name not in going]


@step("remove service", deadline_s=900)
def remove_service(site: Site, service: Service, owner: str) -> str:
    """The service is gone from its cluster. One that will go itself may keep what resists, and the namespaces, and all where it is silent.

    Raises:
        InUse: another run drills or changes it.
    """
    progress, goes_itself = Progress("remove-service"), site.block.provisioned
    try:
        api = enter(site, progress.look, silent_for_s=SILENT_FOR_S)
    except Silent as error:
        get_run_logger().warning("skipped, as the cluster goes: whether another run works on the service, and its removal. %s", error)
        return f"skipped: {error}"
    except NoWayIn as error:
        return f"nothing to remove: {error}"
    journal.wait_until_unlocked(api, service, owner)
    try:
        remove_workloads(api, service, progress)
        if not goes_itself:
            for kept in remove_namespaces(api, service, progress):
                get_run_logger().info("left as it is: namespace %s", kept)
    except TimedOut as error:
        if not goes_itself:
            raise
        get_run_logger().warning("going on, as the cluster goes too: %s", error)
    progress.say(100, "the service is gone")
    return "removed"


@step("sweep", deadline_s=300)
def sweep_drill(site: Site, service: Service, owner: str) -> list[str]:
    """Nothing of that run's drill is left in the cluster: no load, no lock, its journal closed; returns what was done.

    Without an owner, of any run that is dead. A deleted head needs no undoing: KubeRay makes a new one.
    """
    try:
        api = enter(site)
    except (NoSuchTarget, NoWayIn) as error:
        get_run_logger().info("nothing to sweep: %s", error)
        return [f"nothing to sweep: {error}"]
    done = []
    holder = Lock(api, service, owner).holder()
    found = journal.read(api, service)
    left = found if found and found.state == "open" and (found.owner == owner or (not owner and holder != found.owner)) else None
    if whose := owner or (left.owner if left else ""):
        # Whatever the journal says: a run that could not remove its loads may have closed it all the same.
        done += [f"load {name} removed" for name in journal.remove_loads(api, whose)]
    if left:
        journal.write(api, service, left.model_copy(update={"state": "closed"}))
        done.append("journal closed")
    if owner and holder == owner:
        Lock(api, service, owner).release()
        done.append("lock released")
    get_run_logger().info("%s", "; ".join(done) or "nothing was left")
    return done


@step("audit", deadline_s=300)
def audit(site: Site) -> None:
    """Nothing of the stack is left in AWS but its bucket of state and evidence.

    Raises:
        LeftBehind: something is; says what.
    """
    block = site.block
    forget()
    if block.aws is None or not block.provisioned:
        return
    session, progress = block.session(), Progress("audit")

    def probe() -> bool | Pending:
        left = leftovers(session, site.infrastructure.name)
        return Pending("; ".join(map(str, left))) if left else True

    try:
        Until("everything to be gone", probe, AUDIT_WITHIN_S, 5.0, progress.look).wait()
    except TimedOut as error:
        raise LeftBehind(f"{error}. Delete it by hand, then run cleanup again: it costs money") from error
    progress.say(100, "nothing is left")
