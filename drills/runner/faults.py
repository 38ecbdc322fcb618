"""The act of each kind of fault. A fault is written into the journal before it is done, and done to one UID only: so never twice.

What a fault changes, how that is proven and the words for it are in drills/faults.py, under the same name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from blocks.errors import Permanent
from drills.definition import Fault
from drills.faults import EFFECTS
from drills.kubernetes.api import Api, Conflict
from drills.runner import journal as journals
from drills.runner.journal import FaultNote, Journal, Lock, LockLost
from drills.runner.observer import Observer
from drills.subject import Subject


class UnknownFault(Permanent):
    """No fault of that kind can be done: it has no act, or no proof."""


class NothingToBreak(Permanent):
    """The target of the fault is not there."""


class Act(NamedTuple):
    """How a kind of fault is done."""

    find: Callable[[Api, Subject], FaultNote]
    """Returns the target with its UID, not touched yet. Raises NothingToBreak when it is not there."""

    strike: Callable[[Api, Subject, Fault, FaultNote], FaultNote]
    """Strikes the planned target unless an earlier try did, and no other one; returns the note with `done` and the time. It may be called
    again after a crash at any point."""


def find_head(api: Api, subject: Subject) -> FaultNote:
    """Return the running head pod as the target."""
    with Observer(api, subject) as observer:
        head = observer.take_snapshot(ask=False).head
    if head is None or not head.running:
        raise NothingToBreak(f"{subject.namespace}/{subject.name} has no running head pod to delete")
    return FaultNote(pod=head.pod, uid=head.uid, at=time.time())


def delete_pod(api: Api, subject: Subject, fault: Fault, planned: FaultNote) -> FaultNote:
    """Delete the planned pod unless an earlier try did. A pod of the same name with another UID is not touched."""
    path = f"/api/v1/namespaces/{subject.namespace}/pods/{planned.pod}"
    pod = api.find(path)
    if pod is None or pod["metadata"]["uid"] != planned.uid or "deletionTimestamp" in pod["metadata"]:
        # An earlier try did it, at about the time it had written down.
        return planned.model_copy(update={"done": True})
    at = time.time()
    with suppress(Conflict):  # gone since it was read
        api.delete(path, uid=planned.uid, grace_s=0 if fault.grace == "forced" else None)
    return planned.model_copy(update={"done": True, "at": at})


ACTS = {"delete-head-pod": Act(find_head, delete_pod)}
"""All acts, by kind of fault."""


def check_known(fault: Fault) -> None:
    """Check that the fault can be done and proven.

    Raises:
        UnknownFault: it cannot; the message lists the kinds that can.
    """
    known = sorted(ACTS.keys() & EFFECTS)
    if fault.kind not in known:
        raise UnknownFault(f"there is no fault {fault.kind!r}; there are: {', '.join(known)}")


def inject_once(api: Api, subject: Subject, fault: Fault, owner: str, number: int = 1) -> Journal:
    """Do the fault of that number as the holder of the lock; a retry finds in the journal what was planned, and finishes that.

    Raises:
        LockLost: another run has the service now; nothing was touched.
    """
    # Renewed here once more: a machine that was suspended has renewed nothing, and its background thread would notice too late.
    if not Lock(api, subject, owner).renew():
        raise LockLost("another run took over the drill lock before the fault, so this one breaks nothing; look at that run instead")
    journal = journals.read(api, subject)
    assert journal is not None, "the lock is taken first, with a journal"
    return inject(api, subject, fault, journal, number)


def inject(api: Api, subject: Subject, fault: Fault, journal: Journal, number: int = 1) -> Journal:
    """Do the fault of that number exactly once; returns the journal as it is in the cluster, with the fault."""
    check_known(fault)
    find, strike = ACTS[fault.kind]
    if len(journal.faults) < number:
        journal = journals.write(api, subject, journal.with_fault(number, find(api, subject)))
    planned = journal.faults[number - 1]
    if not planned.done:
        journal = journals.write(api, subject, journal.with_fault(number, strike(api, subject, fault, planned)))
    return journal
