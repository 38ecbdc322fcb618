"""The parts that every act has, and how the pod is found that it strikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from blocks.errors import Permanent
from drills.faults import Fault, Of, Which
from drills.kubernetes.api import Api, Object
from drills.kubernetes.rights import Rule
from drills.observed import PodSeen, Snapshot
from drills.runner.observer import Observer
from drills.strikes import Strike
from drills.subject import Subject

F = TypeVar("F", bound=Fault)


class NothingToBreak(Permanent):
    """The target of the fault is not there, or must not be touched."""


class NoPod(NothingToBreak):
    """There is no such pod at the moment; KubeRay makes another one."""


class Act(NamedTuple, Generic[F]):
    """How a kind of fault is done."""

    find: Callable[[Api, Subject, F, Snapshot | None], Strike]
    """Returns the planned strike with its target, not touched yet, from the fault and the last snapshot before the drill's first one.
    Raises NothingToBreak when the target is not there."""

    strike: Callable[[Api, Subject, F, Strike], Strike]
    """Strikes the planned target unless an earlier try did, and no other one; returns the strike with `done`, the time and what it saw.
    It may be called again after a crash at any point."""

    needs: tuple[Rule, ...]
    """The rights that it needs besides those of every drill (`EVERY_DRILL` of drills/kubernetes/rights.py)."""

    undo: Callable[[Api, Subject, Strike], None] | None = None
    """Undoes a strike, also one that was planned and perhaps done. It may be called again, also after the target is gone."""


def find_pod(api: Api, subject: Subject, of: Of, which: Which, before: Snapshot | None) -> tuple[PodSeen, Snapshot]:
    """Return the pod that is meant, as it is now, and the snapshot that shows it.

    Raises:
        NoPod: there is none that runs.
    """
    with Observer(api, subject) as observer:
        now = observer.take_snapshot(ask=False)
    if of == "head":
        if now.head is None or not now.head.running:
            raise NoPod(f"{subject} has no running head pod to break")
        return now.head, now
    known = now.filled_from(before) if before else now
    loads = {worker.pod: sum(map(len, (known.replicas_on(worker.pod) or {}).values())) for worker in now.workers if worker.ready}
    if not loads:
        raise NoPod(f"{subject} has no ready worker pod to break")
    wanted = max(loads.values()) if which == "busiest" else min(loads.values())
    name = min(pod for pod, load in loads.items() if load == wanted)
    return next(worker for worker in now.workers if worker.pod == name), now


def find_same(api: Api, path: str, *uids: str) -> Object | None:
    """Return the object at a path; None when it is gone, or another one than any with these UIDs."""
    found = api.find(path)
    return found if found is not None and found["metadata"]["uid"] in uids else None


def pod_path(subject: Subject, name: str) -> str:
    """Return the path of a pod in the namespace of the service."""
    return f"/api/v1/namespaces/{subject.namespace}/pods/{name}"
