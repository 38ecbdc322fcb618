"""What explains losses: sentences that name the setting or the part to look at, from what was seen of pods, replicas, strikes and requests.

Each cause is a function that yields what it finds, and nothing where there is not enough to tell: a wrong cause is worse than none. None
of them knows the drill or the service.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from drills.definition import Drill
from drills.judge.traffic import by_kind, lost_at
from drills.observed import Observation, PodSeen, Snapshot, WorkerSeen
from drills.records import Record
from drills.strikes import Strike

MOST_WAYS = 3
"""Number of different errors of requests that one sentence quotes."""
ANSWERS = ("RUNNING", "RECOVERING", "UPDATING")
"""States of replicas that answer: a controller that comes back lists those that it has not asked yet as RECOVERING."""
SAME_TIME = 0.1
"""Part by which the durations of requests may differ that one time-out has ended."""
MOST_OF = 0.75
"""Part of the requests that must have been ended after the same time."""
SHORTEST_TIME_OUT_S = 0.5
"""Seconds below which the end of a request is no time-out."""
STALE_S = 10.0
"""Seconds for which a part that is gone may still get requests: until a readiness probe of three tries, 3 s apart, has failed."""


def causes_of(drill: Drill, observation: Observation, records: Sequence[Record]) -> list[str]:
    """Return what explains the losses, or the missing recovery; records are on the observer's clock."""
    before, fault_at = observation.before, observation.fault_at
    if before is None or fault_at is None:
        return []
    seen = _Seen(observation, before, fault_at, records)
    found = [*_alone(seen), *_stale_endpoint(seen), *_no_time_to_end(drill, seen), *_no_room(seen)]
    if any(fault.needs_gcs_storage for fault in drill.faults):
        found += _storage(seen)
    found += [*_forgotten(seen), *_gave_up(seen), *_address(seen), *_time_out(seen), *_by_itself(seen)]
    return list(dict.fromkeys(found))


def what_clients_saw(records: Sequence[Record]) -> list[str]:
    """Return the most frequent errors of lost requests, in the words of their records."""
    lost = [r for r in records if not r.ok and r.detail]
    ways = Counter(map(_way, lost))
    said = []
    for way, n in ways.most_common(MOST_WAYS):
        first = next(r for r in lost if _way(r) == way)
        said.append(f"{n:,} {first.outcome}: “{' '.join(first.detail.split())[:160]}”")
    more = f"; and {len(ways) - MOST_WAYS} other errors" if len(ways) > MOST_WAYS else ""
    return [f"What their clients saw: {'; '.join(said)}{more}."] if said else []


def _way(record: Record) -> tuple[str, int | None, str]:
    """Outcome, status and detail of a lost request; numbers in the detail do not tell one way from another."""
    return record.outcome, record.status, re.sub(r"\d+", "#", record.detail)


class _Seen:
    """What was seen of one fault."""

    def __init__(self, observation: Observation, before: Snapshot, fault_at: float, records: Sequence[Record]) -> None:
        self.before, self.fault_at, self.records = before, fault_at, records
        self.strikes = observation.strikes
        self.later = observation.later
        self.lost = tuple(r for r in records if not r.ok and r.end >= fault_at)
        self.struck = tuple(pod for pod in before.pods if any(self._took(strike, pod) for strike in self.strikes))
        """Pods that the faults took away, or whose Ray container they ended."""

    def _took(self, strike: Strike, pod: PodSeen) -> bool:
        if strike.target.kind != "process":
            return pod.uid in (strike.target.uid, *strike.target.pods)
        return pod.uid in strike.target.pods and any(self.ended(pod, now) for now in self.later)

    def ended(self, pod: PodSeen, now: Snapshot) -> bool:
        """Whether a pod is gone in a snapshot, or its Ray container is another one than before."""
        there = [p for p in now.pods if p.uid == pod.uid]
        return not there or there[0].restarts > pod.restarts

    @property
    def others(self) -> list[WorkerSeen]:
        """Workers that no fault took away."""
        return [worker for worker in self.before.workers if worker not in self.struck]

    def when_ended(self, pod: WorkerSeen) -> float | None:
        """When a worker was first seen to be gone or restarted, or without a replica that it had; None: it never was."""
        # A controller that has just come back may list fewer replicas than there are: those count that stay away.
        listed = [{r.actor_id for r in now.replicas} if now.replicas else None for now in self.later]
        last = next((actors for actors in reversed(listed) if actors is not None), set())
        lost = {r.actor_id for r in self.before.replicas or () if r.pod == pod.pod} - last if last else set()
        gone = (
            now.t for now, there in zip(self.later, listed, strict=True) if self.ended(pod, now) or (there is not None and lost - there)
        )
        return next(gone, None)

    @property
    def head_away_s(self) -> float | None:
        """Seconds from the first fault until a head was ready again, or a stopped one went on; None: no fault struck the head."""
        old = self.before.head
        if old is None or not any(old.uid in (strike.target.uid, *strike.target.pods) for strike in self.strikes):
            return None
        away, back = False, max((strike.healed_at for strike in self.strikes), default=self.fault_at)
        for now in self.later:
            same = now.head is not None and (now.head.uid, now.head.restarts) == (old.uid, old.restarts)
            ready = now.head is not None and now.head.ready
            if ready and (away or not same):
                return max(now.t, back) - self.fault_at
            away = away or not ready
        return (self.later[-1].t if away else back) - self.fault_at

    @property
    def forgotten(self) -> bool:
        """Whether the Serve controller is another actor than before. One that is restarted stays the same; another one means that the GCS
        did not know the old one."""
        old = self.before.controller
        return old is not None and any(s.controller is not None and s.controller.actor_id != old.actor_id for s in self.later)


def _alone(seen: _Seen) -> Iterator[str]:
    """Yield what only the struck pods did for users. A head should do nothing for them, so it counts even if others do it, too."""
    names = {pod.pod for pod in seen.struck}
    head = seen.before.head.pod if seen.before.head and seen.before.head.pod in names else None
    for name, those in seen.before.running().items():
        there = [replica for replica in those if replica.pod in names]
        on_head = sum(replica.pod == head for replica in those) if head else 0
        if on_head:
            which = f"{on_head} of {len(those)} replicas" if len(those) > 1 else "the only replica"
            yield f"{which.capitalize()} of {name} ran on the head."
        elif there and len(there) == len(those):
            which = {1: "The only replica", 2: "Both replicas"}.get(len(those), f"All {len(those)} replicas")
            pods, nodes = {r.pod for r in there}, {r.node for r in there}
            where = (
                f"worker {pods.pop()}" if len(pods) == 1 else f"node {nodes.pop()}" if len(nodes) == 1 else "workers that were all struck"
            )
            yield f"{which} of {name} ran on {where}, which was struck."
    yield from _last_replica(seen, names)
    endpoints = [pod for pod in seen.before.endpoints if pod in names]
    if head in seen.before.endpoints:
        which = f"one of {len(seen.before.endpoints)} endpoints" if len(seen.before.endpoints) > 1 else "the only endpoint"
        yield f"The head was {which} of the serve Service: what came in through it was lost with it."
    elif endpoints and len(endpoints) == len(seen.before.endpoints):
        which = f"Pod {endpoints[0]} was the only endpoint" if len(endpoints) == 1 else f"Pods {', '.join(endpoints)} were all endpoints"
        yield f"{which} of the serve Service, and no other one could answer."


def _last_replica(seen: _Seen, struck: set[str]) -> Iterator[str]:
    """Yield the deployments whose only replica was ended by a struck process, in a pod that lives."""
    pods = {strike.target.pod for strike in seen.strikes if strike.target.kind == "process"} - struck
    for name, those in seen.before.running().items():
        if len(those) == 1 and those[0].pod in pods:
            later = [s.replicas for s in seen.later if s.replicas is not None]
            if any(those[0].actor_id not in {r.actor_id for r in replicas} for replicas in later):
                yield f"The only replica of {name}, in {those[0].pod}, was lost."


def _stale_endpoint(seen: _Seen) -> Iterator[str]:
    """Yield the pods that went on as endpoints although what answers in them was gone."""
    for strike in seen.strikes:
        if strike.target.kind != "process" or strike.target.pod not in seen.before.endpoints:
            continue
        pod, proxy = strike.target.pod, _proxy(seen.before, strike.target.pod)
        new = next((s.t for s in seen.later if s.t > strike.at and _proxy(s, pod) not in (None, proxy)), None)
        left = next((s.t for s in seen.later if s.t > strike.at and pod not in s.endpoints), None)
        if proxy is None or new is None or (left is not None and left <= min(new, strike.at + STALE_S)):
            continue
        refused = [r for r in seen.lost if r.outcome == "refused" and r.status is None]
        until = min(new, left if left is not None else new) - strike.at
        if refused and until > STALE_S:
            yield (
                f"Pod {pod} stayed an endpoint for {until:.0f} s while nothing listened in it, and what was sent there was refused: its "
                "readiness probe does not ask the Serve proxy, or asks too rarely."
            )


def _proxy(snapshot: Snapshot, pod: str) -> str | None:
    return next((proxy.actor_id for proxy in snapshot.proxies or () if proxy.pod == pod), None)


def _no_time_to_end(drill: Drill, seen: _Seen) -> Iterator[str]:
    """Yield the pods that were asked to end, and killed before an answer can be finished."""
    durations = [r.end - r.sent for r in seen.records if r.ok and r.end < seen.fault_at]
    longest = max(durations, default=0.0)
    for fault, strike in zip(drill.faults, seen.strikes, strict=False):
        if not fault.orderly:
            continue
        cut = [r for r in seen.lost if r.sent <= strike.at <= r.end]
        for pod in seen.struck:
            if cut and pod.uid in (strike.target.uid, *strike.target.pods) and pod.pod in seen.before.endpoints:
                yield from _hasty(pod, seen.before, longest, len(cut))


def _hasty(pod: PodSeen, before: Snapshot, longest: float, cut: int) -> Iterator[str]:
    lost = f"and answers take up to {longest:.1f} s: {cut} that were under way were lost."
    if pod.grace_s is not None and pod.grace_s < longest:
        yield f"Pod {pod.pod} has {pod.grace_s:g} s to end (terminationGracePeriodSeconds), {lost}"
    here = before.replicas_on(pod.pod) or {}
    for deployment in before.deployments or ():
        if deployment.name in here and deployment.grace_s is not None and deployment.grace_s < longest:
            yield f"A replica of {deployment.name} has {deployment.grace_s:g} s to end (graceful_shutdown_timeout_s), {lost}"


def _no_room(seen: _Seen) -> Iterator[str]:
    """Yield the deployments that lost replicas, and whose others could not take as many requests at once as were under way before."""
    wanted, running = _most_at_once([r for r in seen.records if r.end < seen.fault_at]), seen.before.running()
    for deployment in seen.before.deployments or ():
        counts = [
            sum(r.deployment == deployment.name and r.state in ANSWERS for r in s.replicas) for s in seen.later if s.replicas is not None
        ]
        replicas = min((n for n in counts if n), default=0)
        if deployment.max_ongoing is None or not replicas or replicas * deployment.max_ongoing >= wanted:
            continue
        if replicas >= len(running.get(deployment.name, ())):  # it had no more room before, and that was enough
            continue
        these = "1 replica" if replicas == 1 else f"{replicas} replicas"
        yield (
            f"{these.capitalize()} of {deployment.name} had room for {replicas * deployment.max_ongoing} requests at once after the fault "
            f"(max_ongoing_requests {deployment.max_ongoing}), and up to {wanted} were under way before it: others waited or were refused."
        )


def _most_at_once(records: Sequence[Record]) -> int:
    """Return the number of requests that were under way at the same time, at most."""
    most = now = 0
    for _, change in sorted([*((r.sent, 1) for r in records), *((r.end, -1) for r in records)]):
        now += change
        most = max(most, now)
    return most


def _storage(seen: _Seen) -> Iterator[str]:
    """Yield that nothing keeps the GCS's state, or that it is not known."""
    if seen.before.gcs_storage is False:
        lost = "so the workers lost their cluster with it" if seen.before.workers else "and the new head knew nothing of what had run"
        yield f"GCS fault tolerance is off: the head kept the cluster's state in its own memory, {lost}."
    elif seen.before.gcs_storage is None:
        yield "Whether GCS fault tolerance is on could not be seen."


def _forgotten(seen: _Seen) -> Iterator[str]:
    """Yield that the state of the GCS was lost although it has a storage."""
    if seen.before.gcs_storage and seen.forgotten:
        yield (
            "GCS fault tolerance is on, but the new head knew nothing of what ran: Serve's controller is another actor than before. Redis "
            "came back empty, or is another one."
        )


def _gave_up(seen: _Seen) -> Iterator[str]:
    """Yield the first worker that ended while it waited for a head."""
    away = seen.head_away_s
    if not seen.before.gcs_storage or seen.forgotten or away is None:
        return
    ended = [(at - seen.fault_at, worker) for worker in seen.others if (at := seen.when_ended(worker)) is not None]
    for after, worker in sorted(ended, key=lambda pair: pair[0])[:1]:
        if worker.head_patience_s is not None and worker.head_patience_s < away:
            yield (
                f"Workers wait {worker.head_patience_s:g} s for a head (RAY_gcs_rpc_server_reconnect_timeout_s), and there was none for "
                f"{away:.0f} s: {worker.pod} or its replicas ended, as was seen {after:.0f} s after the fault."
            )
        elif worker.head_patience_s is None and after < away:
            yield (
                f"Worker {worker.pod} or its replicas ended {after:.0f} s after the fault, before a new head was ready: they did not wait "
                "for it."
            )


def _address(seen: _Seen) -> Iterator[str]:
    """Yield that the head's address changed, where nothing worse explains the losses."""
    old = seen.before.head
    replaced = old is not None and any(s.head is not None and s.head.uid != old.uid for s in seen.later)
    if seen.before.head_address_stays is not False or not replaced or not seen.before.gcs_storage or seen.forgotten:
        return
    if seen.others and all(seen.when_ended(worker) is None for worker in seen.others):
        yield (
            "The head's Service is headless, so its address changed with the head: workers that look for the new head at the old address "
            "answer nothing meanwhile."
        )


def _time_out(seen: _Seen) -> Iterator[str]:
    """Yield that answers were ended after one and the same time, whenever they began, and before an answer takes."""
    for those in by_kind(seen.records):
        whole = median([r.end - r.sent for r in those if r.ok] or [0.0])
        ended = [r for r in those if r.end >= seen.fault_at and r.outcome in ("cut", "refused") and r.status is not None]
        middle = median([r.end - r.sent for r in ended] or [0.0])
        # Those that were under way when it began may have been ended earlier or later.
        same = [r for r in ended if abs(r.end - r.sent - middle) <= SAME_TIME * middle]
        if len(same) < max(4, MOST_OF * len(ended)) or not SHORTEST_TIME_OUT_S < middle < (1 - SAME_TIME) * whole:
            continue
        if max(r.end for r in same) - min(r.end for r in same) > 2:
            yield (
                f"{len(same)} answers were ended {middle:.1f} s after they were asked for, at different moments, and whole ones take "
                f"{whole:.1f} s: a time-out on the way is shorter than an answer."
            )


def _by_itself(seen: _Seen) -> Iterator[str]:
    """Yield how the service ended answers or changed them, and whether anything of it had changed."""
    wrong = [r for r in seen.lost if r.outcome == "wrong"]
    cut = [r for r in by_kind(seen.lost)[1] if r.outcome == "cut" and r.status == 200]
    if wrong:
        first = min(map(lost_at, wrong)) - seen.fault_at
        yield (
            f"{len(wrong)} whole answers with status 200 were not those of a healthy server: the first was asked for "
            f"{abs(first):.1f} s {'after' if first >= 0 else 'before'} the fault."
        )
    struck = {pod.pod for pod in seen.struck} | {strike.target.pod for strike in seen.strikes}
    answering = {*seen.before.endpoints, *(r.pod for r in seen.before.replicas or () if r.pod)}
    if _changed(seen) or struck & answering:
        return
    if cut:
        yield f"{len(cut)} streams began with status 200 and were ended by the other side before their end."
    if wrong or cut:
        yield "No worker, replica or endpoint had changed: the service did that by itself, or something in front of it."


def _changed(seen: _Seen) -> bool:
    """Whether workers, replicas or endpoints differ from before at any moment; what could not be asked does not count."""
    before = {(w.uid, w.restarts) for w in seen.before.workers}
    actors = {r.actor_id for r in seen.before.replicas or ()}
    for now in seen.later:
        if {(w.uid, w.restarts) for w in now.workers} != before or set(now.endpoints) != set(seen.before.endpoints):
            return True
        if now.replicas and {r.actor_id for r in now.replicas} != actors:
            return True
    return False
