"""What drills break, by name. A fault is written into the journal before it is done, and done to one UID only: so never twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from prefect import get_run_logger

from blocks.errors import Permanent
from blocks.parameters import Service
from drills.definition import Drill, Fault
from tasks.drill import journal as journals
from tasks.drill.journal import FaultNote, Journal, Lock, LockLost
from tasks.kubernetes.api import Api, Conflict
from tasks.service.observer import Observer
from tasks.support.site import Site
from tasks.support.step import step


class UnknownFault(Permanent):
    """No function here does a fault of that kind."""


class NothingToBreak(Permanent):
    """What the fault should strike is not there."""


def find_head(api: Api, service: Service) -> FaultNote:
    """The head pod as it is now, to be struck."""
    with Observer(api, service) as observer:
        head = observer.take_snapshot(ask=False).head
    if head is None or not head.running:
        raise NothingToBreak(f"{service.namespace}/{service.name} has no running head pod to delete")
    return FaultNote(pod=head.pod, uid=head.uid, at=time.time())


def delete_pod(api: Api, service: Service, fault: Fault, planned: FaultNote) -> FaultNote:
    """The planned pod is deleted, or was already: a pod of the same name with another UID is not touched."""
    path = f"/api/v1/namespaces/{service.namespace}/pods/{planned.pod}"
    pod = api.find(path)
    if pod is None or pod["metadata"]["uid"] != planned.uid or "deletionTimestamp" in pod["metadata"]:
        # An earlier try did it, at about the time it had written down.
        return planned.model_copy(update={"done": True})
    at = time.time()
    with suppress(Conflict):  # gone since we looked
        api.delete(path, uid=planned.uid, grace_s=0 if fault.grace == "forced" else None)
    return planned.model_copy(update={"done": True, "at": at})


FAULTS: dict[str, tuple[Callable[[Api, Service], FaultNote], Callable[[Api, Service, Fault, FaultNote], FaultNote]]] = {
    "delete-head-pod": (find_head, delete_pod),
}
"""By kind: what finds the target, and what strikes it."""


def known(fault: Fault) -> None:
    """Passes when the fault can be done.

    Raises:
        UnknownFault: it cannot; says which can.
    """
    if fault.kind not in FAULTS:
        raise UnknownFault(f"there is no fault {fault.kind!r}; there are: {', '.join(FAULTS)}")


def inject(api: Api, service: Service, fault: Fault, journal: Journal, number: int = 1) -> Journal:
    """The fault of that number is in, exactly once, and the journal in the cluster says so."""
    known(fault)
    find, strike = FAULTS[fault.kind]
    if len(journal.faults) < number:
        journal = journals.write(api, service, journal.with_fault(number, find(api, service)))
    planned = journal.faults[number - 1]
    if not planned.done:
        journal = journals.write(api, service, journal.with_fault(number, strike(api, service, fault, planned)))
    return journal


@step("inject fault", deadline_s=60)
def inject_fault(site: Site, service: Service, drill: Drill, owner: str, number: int = 1) -> Journal:
    """The drill's fault of that number is in. A retry finds in the journal what was planned, and finishes that.

    Raises:
        LockLost: another run has the service now; nothing was touched.
    """
    api = site.api()
    # Asked anew: a machine that stood still renewed nothing, and learns too late from the background that it is not its turn any more.
    if not Lock(api, service, owner).renew():
        raise LockLost("another run took over the drill lock before the fault, so this one breaks nothing; look at that run instead")
    journal = journals.read(api, service)
    assert journal is not None, "the lock is taken first, with a journal"
    journal = inject(api, service, drill.fault, journal, number)
    get_run_logger().info("%s: pod %s (%s)", drill.title, journal.faults[number - 1].pod, drill.fault.grace)
    return journal
