"""The lock and the journal of a drill. Both are kept in the cluster, so that the next run finds them from any machine.

The lock is a Lease, renewed while the drill is under way and free a minute after its holder died. A deployment, a surge and a refresh
of the service hold it as well. The journal is a ConfigMap with what was done to the cluster and must not be done twice: the load and the
faults.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, model_validator

from blocks.errors import Permanent, TimedOut
from drills.kubernetes import leases, ownership
from drills.kubernetes.api import Api, Conflict, Object
from drills.observed import Snapshot
from drills.runner.waiting import Pending, Until
from drills.strikes import Strike, Target
from drills.subject import HOME, Subject

_DRILL = "drill-"
"""Prefix of the names of all locks and journals."""
FREE_WITHIN_S = leases.DURATION_S + 15.0
"""Seconds to wait for a lock: longer than the lease of a dead holder lasts."""
LOOK_EVERY_S = 3.0
log = logging.getLogger(__name__)


class InUse(Permanent):
    """Another run holds the lock of this service."""

    def __init__(self, subject: Subject, why: TimedOut) -> None:
        super().__init__(f"a deploy, drill, surge or refresh of {subject} is under way; wait for it, or cancel it ({why})")


class LockLost(Permanent):
    """Another run took the lock, because this run did not renew it in time."""


class FaultNote(BaseModel, frozen=True):
    """The faults of a drill for one number of its series, written before each is done."""

    strikes: tuple[Strike, ...] = ()
    """What was done, in order; only the last one may not be done yet."""
    done: bool = False
    """Whether all of them were done, or will not be."""
    missed: str = ""
    """Why the remaining ones will not be done; empty when they were."""

    @model_validator(mode="before")
    @classmethod
    def _of_one_pod(cls, found: Any) -> Any:
        """Read a note from before there were other faults than the deletion of a pod."""
        if isinstance(found, dict) and "pod" in found:
            strike = Strike(target=Target(name=found["pod"], uid=found["uid"]), at=found["at"], done=found["done"])
            return {"strikes": (strike,), "done": found["done"]}
        return found

    @property
    def at(self) -> float:
        """When the first fault was done, or was planned."""
        return self.strikes[0].at

    @property
    def target(self) -> str:
        """What was struck, or is about to be, in words."""
        return ", ".join(str(strike.target) for strike in self.strikes)

    def with_strike(self, step: int, strike: Strike, *, last: bool = False) -> FaultNote:
        """Return the same note with this strike at that place; `last`: nothing follows it."""
        return self.model_copy(update={"strikes": (*self.strikes[:step], strike), "done": last})


class Journal(BaseModel, frozen=True):
    """Everything that a drill has done to the cluster so far."""

    owner: str
    """Id of the flow run."""
    drill: str
    started: float
    state: Literal["open", "judged", "closed"] = "open"
    """judged: nothing of the drill is left in the cluster, and there is a verdict; a run that died before it had kept the evidence goes on
    with that, and breaks nothing again. closed: the same run would begin another drill."""
    before: Snapshot | None = None
    """The last snapshot of the steady state before the last fault, or before the next one."""
    faults: tuple[FaultNote, ...] = ()
    """The faults in order; only the last one may not be done yet. A thousand faults take an eighth of the size limit of a ConfigMap."""

    @model_validator(mode="before")
    @classmethod
    def _of_one_fault(cls, found: Any) -> Any:
        """Read a journal from before there were series, which has one `fault`: a run that resumes it must not do that fault again."""
        if isinstance(found, dict) and found.get("fault") and "faults" not in found:
            return {**found, "faults": [found["fault"]]}
        return found

    @property
    def fault(self) -> FaultNote | None:
        """The last fault; None before the first."""
        return self.faults[-1] if self.faults else None

    @property
    def next_fault(self) -> int:
        """The number of the fault at which a resumed run goes on; the first is 1. It is the last fault of the journal, which is still to be
        done or observed, unless the steady state before the next one was seen already."""
        steady_again = self.fault is not None and self.fault.done and self.before is not None and self.before.t > self.fault.at
        return max(1, len(self.faults)) + steady_again

    @property
    def left(self) -> bool:
        """Whether something that was done must still be undone."""
        return any(strike.left for note in self.faults for strike in note.strikes)

    def undone(self, number: int, step: int) -> Journal:
        """Return the same journal in which a strike is undone."""
        note = self.faults[number - 1]
        strikes = [s.model_copy(update={"undone_at": time.time()}) if n == step else s for n, s in enumerate(note.strikes)]
        changed = note.model_copy(update={"strikes": tuple(strikes)})
        return self.model_copy(update={"faults": (*self.faults[: number - 1], changed, *self.faults[number:])})

    def with_fault(self, number: int, fault: FaultNote) -> Journal:
        """Return the same journal with this fault under that number; the first is 1."""
        return self.model_copy(update={"faults": (*self.faults[: number - 1], fault)})

    @property
    def attempt(self) -> str:
        """Name of this attempt within its flow run: a drill that ended properly and is run again has a load and a folder of its own. It is
        the time at which the attempt began, as a counter would be lost when another run's journal comes in between."""
        return datetime.fromtimestamp(self.started, UTC).strftime("%Y%m%dt%H%M%S")

    @property
    def load_name(self) -> str:
        """Name of the load Job of this attempt."""
        return f"{_prefix(self.owner)}{self.attempt}"

    def continued(self, owner: str, drill: str, now: float) -> Journal:
        """Return the journal for the next drill: this one if it is not closed, and of the same run and drill; else a new one."""
        if self.owner == owner and self.state != "closed" and self.drill == drill:
            return self
        return Journal(owner=owner, drill=drill, started=now)


def _prefix(owner: str) -> str:
    """Return the prefix of the names of all load Jobs of a run."""
    return f"load-{owner[:8]}-"


def _name(subject: Subject) -> str:
    return f"{_DRILL}{subject.key}"


def _leases(home: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases"


def _maps(home: str) -> str:
    return f"/api/v1/namespaces/{home}/configmaps"


def _jobs(home: str) -> str:
    return f"/apis/batch/v1/namespaces/{home}/jobs"


class Lock:
    """The drill lock of a service."""

    def __init__(self, api: Api, subject: Subject, owner: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api, self._home, self._name, self._owner, self._clock = api, subject.home, _name(subject), owner, clock

    def take(self) -> bool | Pending:
        """Take or renew the lock; returns True, or Pending with the holder when another run has it."""
        lease = self._read()
        wanted = leases.claim(lease, self._owner, self._clock(), name=self._name, namespace=self._home)
        if isinstance(wanted, leases.HeldBy):
            return Pending(f"run {wanted.owner} holds it for {wanted.for_s:.0f} s more unless renewed")
        try:
            self._write(wanted, new=lease is None)
        except Conflict:
            return Pending("another run was faster")
        return True

    def renew(self) -> bool:
        """Renew the lock; returns False when another run has it. A parallel renewal by this run counts as well."""
        return self.take() is True or self.holder() == self._owner

    def release(self) -> None:
        """Release the lock if this run holds it."""
        wanted = leases.released(self._read(), self._owner)
        if wanted is not None:
            try:
                self._write(wanted, new=False)
            except Conflict:
                log.info("the drill lock changed hands meanwhile")

    def holder(self) -> str:
        """Return the id of the run that holds the lock; empty when it is free."""
        return self.held()[0]

    def held(self) -> tuple[str, datetime | None]:
        """Return the id of the run that holds the lock, and since when; an empty id when it is free."""
        lease = self._read()
        return leases.holder(lease, self._clock()), leases.acquired(lease)

    def _read(self) -> Object | None:
        return self._api.find(f"{_leases(self._home)}/{self._name}")

    def _write(self, lease: Object, *, new: bool) -> None:
        path = _leases(self._home)
        self._api.call("POST" if new else "PUT", path if new else f"{path}/{self._name}", body=lease)


def wait_until_unlocked(api: Api, subject: Subject, owner: str) -> None:
    """Wait until no other run holds the lock of the service; the lock of a dead run expires.

    Raises:
        InUse: another run still renews it.
        Unavailable: the API server does not answer.
    """
    lock = Lock(api, subject, owner)

    def probe() -> bool | Pending:
        holder = lock.holder()
        return Pending(f"run {holder} holds it") if holder not in ("", owner) else True

    try:
        Until("the drill lock", probe, FREE_WITHIN_S, LOOK_EVERY_S).wait()
    except TimedOut as error:
        if lock.holder() in ("", owner):  # the time was lost by an API server that did not answer
            return
        raise InUse(subject, error) from error


def acquire(api: Api, subject: Subject, owner: str, on_pending: Callable[[Pending], None]) -> None:
    """Wait until the owner holds the lock of the service.

    Raises:
        InUse: another run keeps it.
    """
    if subject.home != subject.namespace:
        ownership.ensure_namespace(api, subject.home)
    try:
        Until("the drill lock", Lock(api, subject, owner).take, FREE_WITHIN_S, LOOK_EVERY_S, on_pending).wait()
    except TimedOut as error:
        raise InUse(subject, error) from error


@contextmanager
def renewing(lock: Lock, every_s: float = leases.RENEW_EVERY_S) -> Iterator[Callable[[], None]]:
    """Renew the lock in the background until the end of the block. Yields a check that raises LockLost when another run has taken it."""
    done, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(every_s):
            try:
                if not lock.renew():
                    lost.set()
            except Exception as error:  # the API server may be unavailable for a moment; the lease lasts for six tries
                log.warning("the drill lock could not be renewed: %s", error)

    def check() -> None:
        if lost.is_set():
            raise LockLost("another run took over the drill lock: this one did not renew it in time; look at that run instead")

    thread = threading.Thread(target=renew, name="drill-lock", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        done.set()
        thread.join(timeout=5)


@contextmanager
def holding(lock: Lock, release: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Renew a lock that was taken until the end of the block, and call `release` after the last renewal. Yields the check of
    `renewing`."""
    try:
        with renewing(lock) as check:
            yield check
    finally:
        release()


def read(api: Api, subject: Subject) -> Journal | None:
    """Return the last journal of the service; None when there is none."""
    found = api.find(f"{_maps(subject.home)}/{_name(subject)}")
    return Journal.model_validate_json(found["data"]["journal"]) if found else None


def write(api: Api, subject: Subject, journal: Journal) -> Journal:
    """Write the journal into the cluster; returns it."""
    metadata = {"name": _name(subject), "namespace": subject.home}
    api.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"journal": journal.model_dump_json(exclude_defaults=True)}}
    )
    return journal


def remove_journal(api: Api, subject: Subject) -> None:
    """Remove the journal and the lock of the service."""
    api.delete(f"{_maps(subject.home)}/{_name(subject)}")
    api.delete(f"{_leases(subject.home)}/{_name(subject)}")


def services_with_journals(api: Api) -> list[str]:
    """Return the keys (`Subject.key`) of the services that have a journal or a lock in HOME. A deployment leaves only a lock."""
    names = (str(thing["metadata"]["name"]) for path in (_maps(HOME), _leases(HOME)) for thing in api.items(path))
    return sorted({name.removeprefix(_DRILL) for name in names if name.startswith(_DRILL)})


def remove_load(api: Api, subject: Subject, name: str) -> bool:
    """Delete the load Job, its program and, in the background, its pod; returns False when there was no Job."""
    api.delete(f"{_maps(subject.home)}/{name}")  # it would go with the Job, but some time later
    return api.delete(f"{_jobs(subject.home)}/{name}")


def remove_loads_of(api: Api, subject: Subject) -> None:
    """Delete the load Jobs of the service, of all runs, and their pods."""
    for job in api.items(_jobs(subject.home)):
        if ownership.belongs(job, subject):
            remove_load(api, subject, job["metadata"]["name"])


def remove_loads(api: Api, subject: Subject, owner: str) -> list[str]:
    """Delete the load Jobs of the run, of all attempts, and their pods; returns their names."""
    names = [str(job["metadata"]["name"]) for job in api.items(_jobs(subject.home))]
    return [name for name in names if name.startswith(_prefix(owner)) and remove_load(api, subject, name)]
