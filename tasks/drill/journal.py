"""The drill's lock and journal head, kept in the cluster: whoever runs next finds them, on whatever machine.

The lock is a Lease, renewed while the drill goes on and free a minute after its holder died. Whatever else changes the
service (a deployment, a surge, a refresh) holds it as well. The journal is a
ConfigMap that says what was done to the cluster and must not be done twice: the load, and the fault.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from prefect import get_run_logger
from pydantic import BaseModel, model_validator

from blocks.errors import Permanent, TimedOut
from blocks.parameters import Service
from drills.observed import Snapshot
from tasks.kubernetes import leases, ownership
from tasks.kubernetes.api import Api, Conflict, Object
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step
from tasks.support.waiting import Pending, Until

NAMESPACE = "leeward-load"
_LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
_DRILL = "drill-"
"""What the names of all locks and journals begin with."""
FREE_WITHIN_S = leases.DURATION_S + 15.0
"""A lock that nobody renews is free by then."""
LOOK_EVERY_S = 3.0
log = logging.getLogger(__name__)


class InUse(Permanent):
    """Another run drills or changes this service."""

    def __init__(self, service: Service, why: TimedOut) -> None:
        where = f"{service.namespace}/{service.name}"
        super().__init__(f"a deploy, drill, surge or refresh of {where} is under way; wait for it, or cancel it ({why})")


class LockLost(Permanent):
    """Another run took the lock: ours was not renewed in time."""


class FaultNote(BaseModel, frozen=True):
    """A fault, written down before it is done."""

    pod: str
    uid: str
    at: float
    """When it was done; as long as `done` is false: when it was about to be."""
    done: bool = False


class Journal(BaseModel, frozen=True):
    """What a drill has done to the cluster so far."""

    owner: str
    """Id of the flow run."""
    drill: str
    started: float
    state: Literal["open", "closed"] = "open"
    """closed: nothing of it is left in the cluster."""
    before: Snapshot | None = None
    """The steady state that was seen before the last fault, or before the one that comes next."""
    faults: tuple[FaultNote, ...] = ()
    """In order; only the last one may not be done yet. A thousand of them take an eighth of what a ConfigMap may hold."""

    @model_validator(mode="before")
    @classmethod
    def _of_one_fault(cls, found: Any) -> Any:
        """A journal written before there were series has one `fault`: a run that goes on with it must not do that again."""
        if isinstance(found, dict) and found.get("fault") and "faults" not in found:
            return {**found, "faults": [found["fault"]]}
        return found

    @property
    def fault(self) -> FaultNote | None:
        """The last fault; None before the first."""
        return self.faults[-1] if self.faults else None

    @property
    def goes_on_with(self) -> int:
        """The number of the fault that a run which comes back is at: the last one, to be done or watched, unless the steady state before
        the next was seen already. The first is 1."""
        calm = self.fault is not None and self.fault.done and self.before is not None and self.before.t > self.fault.at
        return max(1, len(self.faults)) + calm

    def with_fault(self, number: int, fault: FaultNote) -> Journal:
        """The same, with this as the fault of that number; the first is 1."""
        return self.model_copy(update={"faults": (*self.faults[: number - 1], fault)})

    @property
    def attempt(self) -> str:
        """Which of the run's it is: a drill that was ended in order and is run again has a load and a folder of its own. Told by when
        it began, as another run's journal may have come between."""
        return datetime.fromtimestamp(self.started, UTC).strftime("%Y%m%dt%H%M%S")

    @property
    def load_name(self) -> str:
        """Of this attempt's load Job; of the first, where there are several."""
        return f"{_prefix(self.owner)}{self.attempt}"

    def load_names(self, count: int) -> list[str]:
        """Of so many load Jobs of this attempt, the first one's as above."""
        return [self.load_name, *(f"{self.load_name}-{n}" for n in range(2, count + 1))]

    def follow(self, owner: str, drill: str, now: float, *, go_on: bool = True) -> Journal:
        """What the next drill begins with: this one where it left off, when it is the same run's, still open, and may be gone on with."""
        if go_on and self.owner == owner and self.state == "open" and self.drill == drill:
            return self
        return Journal(owner=owner, drill=drill, started=now)


def _prefix(owner: str) -> str:
    """What the names of all load Jobs of a run begin with."""
    return f"load-{owner[:8]}-"


def _name(service: Service) -> str:
    return f"{_DRILL}{ownership.key(service)}"


class Lock:
    """The drill lock of a service."""

    def __init__(self, api: Api, service: Service, owner: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api, self._name, self._owner, self._clock = api, _name(service), owner, clock

    def take(self) -> bool | Pending:
        """The lock is ours, renewed; else who has it."""
        lease = self._read()
        wanted = leases.claim(lease, self._owner, self._clock(), name=self._name, namespace=NAMESPACE)
        if isinstance(wanted, leases.HeldBy):
            return Pending(f"run {wanted.owner} holds it for {wanted.for_s:.0f} s more unless renewed")
        try:
            self._write(wanted, new=lease is None)
        except Conflict:
            return Pending("somebody else was faster")
        return True

    def renew(self) -> bool:
        """Whether the lock, which was ours, is ours still; then it is renewed, by this or by what was faster."""
        return self.take() is True or self.holder() == self._owner

    def release(self) -> None:
        """The lock is not ours; nothing happens when it was not."""
        wanted = leases.released(self._read(), self._owner)
        if wanted is not None:
            try:
                self._write(wanted, new=False)
            except Conflict:
                log.info("the drill lock changed hands meanwhile")

    def holder(self) -> str:
        """Who has it now; empty: nobody."""
        return leases.holder(self._read(), self._clock())

    def held(self) -> tuple[str, datetime | None]:
        """Who has it now, and since when; empty: nobody."""
        lease = self._read()
        return leases.holder(lease, self._clock()), leases.acquired(lease)

    def _read(self) -> Object | None:
        return self._api.find(f"{_LEASES}/{self._name}")

    def _write(self, lease: Object, *, new: bool) -> None:
        self._api.call("POST" if new else "PUT", _LEASES if new else f"{_LEASES}/{self._name}", body=lease)


def no_other_drill(api: Api, service: Service, owner: str) -> None:
    """Passes when nobody else drills or changes the service, after waiting for a dead run's lock to run out.

    Raises:
        InUse: somebody does.
        Unavailable: nobody can be asked.
    """
    lock = Lock(api, service, owner)

    def probe() -> bool | Pending:
        holder = lock.holder()
        return Pending(f"run {holder} holds it") if holder not in ("", owner) else True

    try:
        Until("the drill lock", probe, FREE_WITHIN_S, LOOK_EVERY_S).wait()
    except TimedOut as error:
        if lock.holder() in ("", owner):  # it was not held: there was no answer
            return
        raise InUse(service, error) from error


@contextmanager
def kept(lock: Lock, every_s: float = leases.RENEW_EVERY_S) -> Iterator[Callable[[], None]]:
    """The lock is renewed in the background. Yields a check that raises LockLost when another run has taken it."""
    done, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(every_s):
            try:
                if not lock.renew():
                    lost.set()
            except Exception as error:  # the API server may be away for a moment; the lease lives for six tries
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


def keeping(site: Site, service: Service, owner: str) -> AbstractContextManager[Callable[[], None]]:
    """`kept` for the lock that the run took on a site."""
    return kept(Lock(site.api(), service, owner))


def read(api: Api, service: Service) -> Journal | None:
    """The service's last journal; None when there is none."""
    found = api.find(f"{_MAPS}/{_name(service)}")
    return Journal.model_validate_json(found["data"]["journal"]) if found else None


def write(api: Api, service: Service, journal: Journal) -> Journal:
    """The journal is in the cluster."""
    metadata = {"name": _name(service), "namespace": NAMESPACE}
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"journal": journal.model_dump_json()}})
    return journal


def remove(api: Api, service: Service) -> None:
    """No journal of the service is left, and no lock."""
    api.delete(f"{_MAPS}/{_name(service)}")
    api.delete(f"{_LEASES}/{_name(service)}")


def drilled(api: Api) -> list[str]:
    """Of which services there are journals or locks, as `_ours.key` has them: a deployment has a lock alone."""
    names = (str(thing["metadata"]["name"]) for path in (_MAPS, _LEASES) for thing in api.items(path))
    return sorted({name.removeprefix(_DRILL) for name in names if name.startswith(_DRILL)})


@step("take drill lock", deadline_s=200)
def take_lock(site: Site, service: Service, owner: str, drill: str, now: float, go_on: bool = True) -> Journal:
    """Nobody else drills this service; returns the journal to go on with. What another drill left of its loads is removed.

    Args:
        go_on: whether a run that is tried again goes on where it was; else its drill begins anew, as another attempt.

    Raises:
        InUse: another run drills or changes it.
    """
    api = _lock(site, service, owner)
    earlier = read(api, service)
    journal = earlier.follow(owner, drill, now, go_on=go_on) if earlier else Journal(owner=owner, drill=drill, started=now)
    if journal is earlier:
        get_run_logger().info("going on with the drill that this run began: faults so far: %d", len(journal.faults))
    else:
        if earlier and earlier.state == "open":
            get_run_logger().warning("run %s left a drill behind: its load is removed", earlier.owner)
            remove_loads(api, earlier.owner)
        remove_loads(api, owner)  # an earlier attempt may have ended without
    return write(api, service, journal)


@step("hold drill lock", deadline_s=200)
def hold_lock(site: Site, service: Service, owner: str) -> None:
    """Nobody else drills or changes the service; the journal stays as it is.

    Raises:
        InUse: another run does.
    """
    _lock(site, service, owner)


@step("let go of drill lock", deadline_s=60)
def let_go_of_lock(site: Site, service: Service, owner: str) -> None:
    """The lock is free, if it was this run's; the journal stays as it is."""
    Lock(site.api(), service, owner).release()


def _lock(site: Site, service: Service, owner: str) -> Api:
    """The owner has the lock of the service in this cluster. InUse: somebody else keeps it."""
    api, progress = site.api(), Progress("drill-lock")
    ownership.ensure_namespace(api, NAMESPACE)
    try:
        Until("the drill lock", Lock(api, service, owner).take, FREE_WITHIN_S, LOOK_EVERY_S, progress.show_pending).wait()
    except TimedOut as error:
        raise InUse(service, error) from error
    progress.show(100, "nobody else drills or changes this service")
    return api


@step("release drill lock", deadline_s=60)
def release_lock(site: Site, service: Service, owner: str) -> None:
    """The lock is free and the journal closed, if they were this run's."""
    api = site.api()
    journal = read(api, service)
    if journal and journal.owner == owner and journal.state == "open":
        write(api, service, journal.model_copy(update={"state": "closed"}))
    Lock(api, service, owner).release()


def remove_load(api: Api, name: str) -> bool:
    """The load Job and its pod are gone or going; False: there was none."""
    return api.delete(f"{_JOBS}/{name}")


def remove_loads_of(api: Api, service: Service) -> None:
    """All load Jobs of the service, of whatever run, and their pods are gone or going."""
    for job in api.items(_JOBS):
        if ownership.belongs(job, service):
            remove_load(api, job["metadata"]["name"])


def remove_loads(api: Api, owner: str) -> list[str]:
    """All load Jobs of the run, of whatever attempt, and their pods are gone or going; returns the names of those there were."""
    names = [str(job["metadata"]["name"]) for job in api.items(_JOBS)]
    return [name for name in names if name.startswith(_prefix(owner)) and remove_load(api, name)]
