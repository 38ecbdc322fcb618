"""The causes of losses: each is named where it is seen, and not where something else explains them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from drill_runs import LOSES, STRIKE, SURVIVES, T0, WORKERS, observation, records

from drills.definition import Drill
from drills.faults import Fault
from drills.judge.causes import causes_of, what_clients_saw
from drills.judge.verdict import judge
from drills.observed import ActorSeen, Observation, Snapshot
from drills.records import Record
from drills.strikes import Strike, Target

CONTROLLER = ActorSeen(actor_id="c1", worker_id="w1", pod="mistral-head-old")
HEALTHY = observation(SURVIVES)
LOST = [replace(r, outcome="cut", status=200) if r.kind == "stream" and T0 < r.end < T0 + 8 else r for r in records(SURVIVES)]
"""The requests of a drill in which some streams were cut."""


def changed(seen: Observation, before: Callable[[Snapshot], Any], after: Callable[[Snapshot], Any] = lambda s: {}) -> Observation:
    """The observation with other fields in the snapshots before and after the fault."""
    update = [s.model_copy(update=before(s) if s.t <= T0 else after(s)) for s in seen.snapshots]
    return seen.model_copy(update={"snapshots": tuple(update)})


def workers(snapshot: Snapshot, **fields: Any) -> dict[str, Any]:
    return {"workers": tuple(w.model_copy(update=fields) for w in snapshot.workers)}


def on_worker(page: str, number: int = 0) -> tuple[Drill, Observation]:
    """A drill that strikes a worker, which is another one afterwards."""
    drill, before = Drill.named(page), HEALTHY.before
    assert before
    struck = before.workers[number]
    strike = Strike(target=Target(name=struck.pod, uid=struck.uid, node=struck.node or ""), at=T0, done=True)

    def after(s: Snapshot) -> dict[str, Any]:
        old = before.model_copy(update={"t": s.t})
        new = [w.model_copy(update={"uid": "new", "pod": "new"}) if w.pod == struck.pod else w for w in old.workers]
        left = tuple(r for r in old.replicas or () if r.pod != struck.pod)
        endpoints = tuple(e for e in old.endpoints if e != struck.pod)
        return {**dict(old), "t": s.t, "workers": tuple(new), "replicas": left, "endpoints": endpoints}

    return drill, changed(HEALTHY.model_copy(update={"strikes": (strike,)}), lambda s: {}, after)


def found(seen: Observation, drill: Drill = SURVIVES.drill, those: list[Record] = LOST) -> str:
    return " ".join(causes_of(drill, seen, those))


def test_nothing_is_named_but_the_service_itself_when_nothing_else_changed() -> None:
    told = causes_of(SURVIVES.drill, HEALTHY, LOST)
    assert len(told) == 2, told
    assert told[0] == "14 streams began with status 200 and were ended by the other side before their end."
    assert told[1].startswith("No worker, replica or endpoint had changed")
    assert causes_of(SURVIVES.drill, HEALTHY, records(SURVIVES)) == []


def test_a_gcs_that_forgot_what_ran_is_named_only_where_the_controller_is_another_actor() -> None:
    restarted = changed(
        HEALTHY, lambda s: {"controller": CONTROLLER}, lambda s: {"controller": CONTROLLER.model_copy(update={"worker_id": "w2"})}
    )
    assert "Redis came back empty" not in found(restarted)
    another = changed(
        HEALTHY, lambda s: {"controller": CONTROLLER}, lambda s: {"controller": CONTROLLER.model_copy(update={"actor_id": "c2"})}
    )
    assert "Redis came back empty" in found(another)
    without = changed(another, lambda s: {"gcs_storage": False})
    assert "GCS fault tolerance is off" in found(without)
    assert "Redis came back empty" not in found(without)


@pytest.mark.parametrize(("patience", "named"), [(5.0, True), (600.0, False)])
def test_workers_that_did_not_wait_for_the_head_are_named(patience: float, named: bool) -> None:
    seen = changed(HEALTHY, lambda s: workers(s, head_patience_s=patience), lambda s: workers(s, restarts=int(s.t > T0 + 7)))
    assert ("Workers wait 5 s for a head (RAY_gcs_rpc_server_reconnect_timeout_s), and there was none for 17 s" in found(seen)) is named
    lost = changed(
        HEALTHY,
        lambda s: workers(s, head_patience_s=patience),
        lambda s: {"replicas": tuple(r.model_copy(update={"actor_id": f"new-{r.actor_id}"}) for r in s.replicas or ()) or None},
    )
    assert ("or its replicas ended, as was seen 17 s after the fault" in found(lost)) is named
    assert "Workers wait" not in found(changed(HEALTHY, lambda s: workers(s, head_patience_s=patience))), "no worker ended"


def test_a_headless_service_is_named_only_where_nothing_worse_explains_the_losses() -> None:
    headless = changed(HEALTHY, lambda s: {"head_address_stays": False})
    assert "The head's Service is headless" in found(headless)
    for worse in (
        changed(headless, lambda s: {"gcs_storage": False}),
        changed(headless, lambda s: {}, lambda s: workers(s, restarts=1)),
        changed(HEALTHY, lambda s: {"head_address_stays": True}),
        changed(headless, lambda s: {"workers": ()}, lambda s: {"workers": ()}),
    ):
        assert "headless" not in found(worse)


def test_what_only_the_struck_worker_did_is_named() -> None:
    drill, seen = on_worker("worker-forced")
    assert "ran on worker" not in found(seen, drill), "the other worker has replicas, too"

    def alone(s: Snapshot) -> dict[str, Any]:
        return {"replicas": tuple(r for r in s.replicas or () if r.pod == WORKERS[0]), "endpoints": (WORKERS[0],)}

    told = found(changed(seen, alone), drill)
    assert f"The only replica of engine ran on worker {WORKERS[0]}, which was struck." in told
    assert f"Pod {WORKERS[0]} was the only endpoint of the serve Service" in told
    assert "endpoint had changed" not in told


def test_both_replicas_on_one_worker_are_named() -> None:
    drill, seen = on_worker("worker-forced")
    packed = changed(seen, lambda s: {"replicas": tuple(r.model_copy(update={"pod": WORKERS[0]}) for r in s.replicas or ())})
    assert f"Both replicas of engine ran on worker {WORKERS[0]}" in found(packed, drill)


@pytest.mark.parametrize(("grace", "named"), [(2.0, True), (60.0, False)])
def test_a_grace_shorter_than_an_answer_is_named(grace: float, named: bool) -> None:
    drill, seen = on_worker("worker-deleted")
    told = found(changed(seen, lambda s: workers(s, grace_s=grace)), drill)
    assert (f"Pod {WORKERS[0]} has 2 s to end (terminationGracePeriodSeconds), and answers take up to" in told) is named
    forced, same = on_worker("worker-forced")
    assert "to end" not in found(changed(same, lambda s: workers(s, grace_s=grace)), forced), "this fault does not wait for answers"


def test_replicas_of_which_a_few_have_no_time_to_end_are_named() -> None:
    drill, seen = on_worker("worker-deleted")

    def hasty(s: Snapshot) -> dict[str, Any]:
        return {"deployments": tuple(d.model_copy(update={"grace_s": 1.0 if d.name == "api" else 50.0}) for d in s.deployments or ())}

    told = found(changed(seen, hasty), drill)
    assert "A replica of api has 1 s to end (graceful_shutdown_timeout_s)" in told
    assert "replica of engine" not in told


@pytest.mark.parametrize(("each", "named"), [(5, True), (64, False)])
def test_too_little_room_on_what_is_left_is_named(each: int, named: bool) -> None:
    drill, seen = on_worker("worker-forced")

    def narrow(s: Snapshot, most: int = each) -> dict[str, Any]:
        return {"deployments": tuple(d.model_copy(update={"max_ongoing": most}) for d in s.deployments or ())}

    told = found(changed(seen, narrow), drill)
    assert ("1 replica of engine had room for 5 requests at once after the fault (max_ongoing_requests 5), and up to" in told) is named
    assert "had room" not in found(changed(HEALTHY, lambda s: narrow(s, 1))), "it lost no replica: there was no more room before"


def test_an_endpoint_without_a_proxy_is_named() -> None:
    drill = Drill.named("proxy-killed")
    before = HEALTHY.before
    assert before
    struck = before.workers[0]
    target = Target(kind="process", name="Serve proxy", uid="7:1", pod=struck.pod, container="c", pods=(struck.uid,))
    seen = HEALTHY.model_copy(update={"strikes": (STRIKE.model_copy(update={"act": "signal", "target": target}),)})

    def after(s: Snapshot, leaves: float) -> dict[str, Any]:
        late = s.t > T0 + 31
        proxies = (ActorSeen(actor_id="p2" if late else "p1", status="HEALTHY", pod=struck.pod),)
        endpoints = before.endpoints if late or s.t < T0 + leaves else before.endpoints[1:]
        return {**dict(before), "t": s.t, "proxies": proxies, "endpoints": endpoints}

    first = lambda s: {"proxies": (ActorSeen(actor_id="p1", status="HEALTHY", pod=struck.pod),)}  # noqa: E731
    refused = [replace(r, outcome="refused", status=None) if T0 < r.due < T0 + 30 and r.id % 2 else r for r in records(SURVIVES)]
    lying = changed(seen, first, lambda s: after(s, 99))
    assert f"Pod {struck.pod} stayed an endpoint for 31 s while nothing listened in it" in found(lying, drill, refused)
    assert "stayed an endpoint" not in found(changed(seen, first, lambda s: after(s, 8)), drill, refused)
    assert "by itself" not in found(lying, drill), "the streams that were cut went through what was struck"


def test_a_time_out_on_the_way_is_named_by_equal_durations_at_different_moments() -> None:
    streams = [r for r in records(SURVIVES) if r.kind == "stream"]
    ended = [replace(r, outcome="cut", status=200, end=r.sent + 3.0) if r.sent > T0 else r for r in streams]
    assert "were ended 3.0 s after they were asked for, at different moments, and whole ones take 5.0 s" in found(HEALTHY, those=ended)
    at_once = [replace(r, outcome="cut", status=200, end=T0 + 9) if r.sent < T0 + 9 < r.end else r for r in streams]
    assert "time-out" not in found(HEALTHY, those=at_once)


def test_a_replica_that_was_the_only_one_is_named_when_its_process_is_struck() -> None:
    drill, before = Drill.named("replica-killed"), HEALTHY.before
    assert before
    only = next(r for r in before.replicas or () if r.deployment == "engine")
    target = Target(kind="process", name="replica of engine", uid="7:1", pod=only.pod or "", container="c", pods=(before.workers[0].uid,))
    seen = HEALTHY.model_copy(update={"strikes": (STRIKE.model_copy(update={"act": "signal", "target": target}),)})
    rest = tuple(r for r in before.replicas or () if r.deployment == "api")
    gone = changed(seen, lambda s: {"replicas": (*rest, only)}, lambda s: {**dict(before), "t": s.t, "replicas": rest})
    assert f"The only replica of engine, in {only.pod}, was lost." in found(gone, drill)


def test_clients_errors_are_counted_by_their_words_whatever_numbers_they_have() -> None:
    those = [replace(r, outcome="refused", detail=f"queue of {r.id} is full") for r in LOST[:30]]
    assert what_clients_saw(those) == [f"What their clients saw: 30 refused: “queue of {those[0].id} is full”."]
    other = [replace(those[0], status=status, detail=f"HTTP {status}: busy") for status in (503, 503, 429)]
    assert what_clients_saw(other) == ["What their clients saw: 2 refused: “HTTP 503: busy”; 1 refused: “HTTP 429: busy”."]


def test_the_reasons_of_a_verdict_have_causes_before_what_the_cluster_showed() -> None:
    why = judge(LOSES.drill, observation(LOSES), records(LOSES)).why
    at = {words: next(n for n, sentence in enumerate(why) if words in sentence) for words in ("GCS fault tolerance is off", "Meanwhile")}
    assert at["GCS fault tolerance is off"] < at["Meanwhile"]
    assert not any("streams began with status 200" in sentence for sentence in why), "workers had changed"


def test_only_faults_that_ask_pods_to_end_leave_them_time() -> None:
    assert not Fault(kind="other").orderly
    pages = {
        name: Drill.named(name).fault.orderly for name in ("head-pod", "head-pod-forced", "worker-deleted", "node-drained", "proxy-killed")
    }
    assert pages == {"head-pod": True, "head-pod-forced": False, "worker-deleted": True, "node-drained": True, "proxy-killed": False}
