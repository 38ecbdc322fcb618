"""The time line of a drill, from successive snapshots of the cluster."""

from __future__ import annotations

from drill_runs import LOSES, STRIKE, SURVIVES, T0, WORKERS, observation, snapshot

from drills.faults import DrainNode, When
from drills.judge.timeline import build_timeline, changes
from drills.observed import ActorSeen, Event
from drills.pods import spans
from drills.strikes import Strike, Target


def told(events: tuple[Event, ...]) -> list[tuple[str, str, int]]:
    return [(e.what, e.subject, round(e.t - T0)) for e in events]


def test_the_time_line_has_every_step_of_a_replaced_head() -> None:
    events = told(build_timeline(observation(SURVIVES), SURVIVES.drill, T0 + 17.3))
    assert events == [
        ("head pod deleted by force", "mistral-head-old", 0),
        ("old head gone", "mistral-head-old", 0),
        ("RayService not ready", "", 0),
        ("Killing", "mistral-head-old", 1),
        ("new head running", "mistral-head-new", 2),
        ("head ready", "mistral-head-new", 17),
        ("RayService ready", "", 17),
        ("recovered", "", 17),
    ]


def test_a_worker_restart_is_an_event_of_trouble_with_the_name_of_the_pod() -> None:
    trouble = [e for e in build_timeline(observation(LOSES), LOSES.drill) if e.kind == "trouble"]
    assert ("worker restarted", WORKERS[0], 35) in told(tuple(trouble))
    assert {e.what for e in trouble} == {"worker not ready", "worker restarted", "endpoint lost", "replica lost"}


def test_a_change_while_ray_could_not_be_asked_is_an_event_when_it_answers_again() -> None:
    events = told(build_timeline(observation(LOSES), LOSES.drill))
    assert ("replica lost", WORKERS[0], 18) in events
    assert ("new replica", WORKERS[0], 40) in events


def test_a_controller_that_finds_its_replicas_again_has_not_lost_them() -> None:
    before = snapshot(SURVIVES, -3)
    assert before.replicas
    finding = before.model_copy(update={"replicas": tuple(r.model_copy(update={"state": "RECOVERING"}) for r in before.replicas)})
    assert changes(before, finding) == []
    assert changes(finding, before) == []


def test_a_controller_that_lists_no_replica_yet_has_neither_lost_nor_started_one() -> None:
    before = snapshot(SURVIVES, -3)
    silent = before.model_copy(update={"t": before.t + 1, "replicas": ()})
    again = before.model_copy(update={"t": before.t + 2})
    assert [*changes(before, silent), *changes(silent, again)] == []
    seen = observation(SURVIVES).model_copy(update={"snapshots": (before, silent, again)})
    assert not {"replica lost", "new replica"} & {e.what for e in build_timeline(seen, SURVIVES.drill)}


def test_a_lost_replica_beside_one_that_stays_is_named_by_its_deployment() -> None:
    before = snapshot(SURVIVES, -3)
    lost = next(r for r in before.replicas or () if r.deployment == "engine")
    alone = before.model_copy(update={"replicas": tuple(r for r in before.replicas or () if r != lost)})
    (gone,), (back,) = changes(before, alone), changes(alone, before)
    assert (gone.what, gone.subject, "engine" in gone.detail, "api" in gone.detail) == ("replica lost", lost.pod, True, False)
    assert (back.what, back.detail) == ("new replica", "engine was loaded again")


def test_a_restarted_serve_controller_and_a_new_proxy_are_events() -> None:
    proxy, controller = ActorSeen(actor_id="p1", pod=WORKERS[0]), ActorSeen(actor_id="c", worker_id="1", pod="head")
    before = snapshot(SURVIVES, -3).model_copy(update={"proxies": (proxy,), "controller": controller})
    other, again = proxy.model_copy(update={"actor_id": "p2"}), controller.model_copy(update={"worker_id": "2"})
    events = changes(before, before.model_copy(update={"proxies": (other,), "controller": again}))
    assert [(e.what, e.subject) for e in events] == [("Serve controller restarted", "head"), ("new proxy", WORKERS[0])]


def test_a_fault_that_lasts_has_an_end_and_of_several_each_has_its_own_words() -> None:
    two = SURVIVES.drill.model_copy(update={"faults": (*SURVIVES.drill.faults, DrainNode(when=When(after_s=5)))})
    drained = Strike(act="drain-node", target=Target(kind="node", name="inf2-1", uid="n"), at=T0 + 5, ended=T0 + 9, done=True)
    seen = observation(SURVIVES).model_copy(update={"strikes": (STRIKE, drained)})
    events = [(e.what, e.subject, e.t - T0) for e in build_timeline(seen, two) if e.kind == "fault" or e.what == "fault over"]
    assert events == [
        ("delete-pod of the head, grace period 0", "mistral-head-old", 0),
        ("drain-node of the worker", "inf2-1", 5),
        ("fault over", "inf2-1", 9),
    ]


def test_two_equal_snapshots_have_no_event_between_them() -> None:
    assert changes(snapshot(SURVIVES, -3), snapshot(SURVIVES, -2)) == []


def test_a_fault_that_a_task_reported_is_not_added_to_the_time_line_again() -> None:
    seen = observation(SURVIVES)
    reported = seen.model_copy(update={"events": (Event(t=T0, what="head pod deleted", kind="fault"),)})
    assert sum(e.kind == "fault" for e in build_timeline(reported, SURVIVES.drill)) == 1


def test_pod_spans_have_a_hole_while_there_was_no_head() -> None:
    lanes = sorted(spans(observation(SURVIVES).snapshots, T0), key=lambda s: s.since)
    heads = [(s.uid[:4], s.state, round(s.since), round(s.until)) for s in lanes if s.role == "head"]
    assert heads == [("aaaa", "ready", -20, 0), ("bbbb", "not-ready", 2, 17), ("bbbb", "ready", 17, 60)]
    assert [s.state for s in lanes if s.role == "worker"] == ["ready", "ready"]


def test_a_restarted_worker_shows_in_its_spans() -> None:
    lane = [(s.state, s.restarts) for s in spans(observation(LOSES).snapshots, T0) if s.pod == WORKERS[0]]
    assert lane == [("ready", 0), ("not-ready", 0), ("not-ready", 1), ("ready", 1)]
