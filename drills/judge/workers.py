"""Proof that the workers were not touched, or how they were: pod UID, restarts and replica actors, before and after."""

from __future__ import annotations

from drills.observed import Observation, Snapshot, WorkerSeen
from drills.value import Value


class WorkerProof(Value):
    """One worker pod, before the fault and at the end."""

    pod: str
    uid_before: str | None
    """The UID before the fault; None for a worker that came during the drill."""
    uid_after: str | None
    """The UID at the end; None for a worker that is gone."""
    restarts: int
    """Restarts of its Ray container during the drill."""
    node: str | None = None
    replicas_before: tuple[str, ...] | None = None
    """Actor ids of its replicas of all deployments; None when Ray could not be asked."""
    replicas_after: tuple[str, ...] | None = None
    touched: tuple[str, ...] = ()
    """How the worker was touched, in words; empty when it was not. "unknown" counts as touched."""


def worker_proofs(observation: Observation) -> tuple[WorkerProof, ...]:
    """Return one proof for each worker: first those from before the fault, then those that came after it."""
    before, after = observation.before, _last_known(observation)
    if before is None or after is None:
        return ()
    later = {w.pod: w for w in after.workers}
    known = {w.pod for w in before.workers}
    # One that came during the drill counts as untouched: the worker that it replaces counts already.
    newcomers = [
        WorkerProof(
            pod=w.pod, uid_before=None, uid_after=w.uid, restarts=w.restarts, node=w.node, replicas_after=_ids(after.replicas_on(w.pod))
        )
        for w in after.workers
        if w.pod not in known
    ]
    return (*(_proof(w, later.get(w.pod), before, after) for w in before.workers), *newcomers)


def _last_known(observation: Observation) -> Snapshot | None:
    """Return the last snapshot after the fault, with the replicas of the last time that Ray could be asked *after* the fault."""
    if not observation.later:
        return None
    after, asked = observation.later[-1], [s for s in observation.later if s.replicas is not None]
    return after.filled_from(asked[-1]) if after.replicas is None and asked else after


def _proof(worker: WorkerSeen, now: WorkerSeen | None, before: Snapshot, after: Snapshot) -> WorkerProof:
    replicas_before, replicas_after = before.replicas_on(worker.pod), after.replicas_on(worker.pod)
    same = now is not None and now.uid == worker.uid
    restarts = now.restarts - worker.restarts if now is not None and same else 0
    touched = []
    if now is None:
        touched.append("the pod is gone")
    elif not same:
        touched.append("the pod was replaced")
    elif restarts:
        touched.append("restarted" if restarts == 1 else f"restarted {restarts} times")
    if replicas_before is None or replicas_after is None:
        touched.append("unknown: Ray could not be asked for its replicas")
    elif now is not None:
        touched += _changes(replicas_before, replicas_after)
    return WorkerProof(
        pod=worker.pod,
        uid_before=worker.uid,
        uid_after=now.uid if now else None,
        restarts=restarts,
        node=worker.node,
        replicas_before=_ids(replicas_before),
        replicas_after=_ids(replicas_after),
        touched=tuple(touched),
    )


def _changes(before: dict[str, tuple[str, ...]], after: dict[str, tuple[str, ...]]) -> list[str]:
    """Return what happened to the pod's replicas, deployment by deployment; empty when all are the same as before."""
    found = []
    for name in sorted({*before, *after}):
        if name not in after:
            found.append(f"its {name} replica is gone")
        elif before.get(name) != after[name]:
            found.append(f"its {name} replica is another one: it was loaded again")
    return found


def _ids(replicas: dict[str, tuple[str, ...]] | None) -> tuple[str, ...] | None:
    return None if replicas is None else tuple(actor for name in sorted(replicas) for actor in replicas[name])
