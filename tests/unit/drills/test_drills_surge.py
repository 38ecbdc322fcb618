"""The verdict on a surge: the service grows, shrinks and loses no request; and when nothing can be concluded. And its report."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from surge_runs import GROWS, HEAD_DIES, NEVER_GROWS, STAYS, T0, World, observation, plan, records, snapshot

from drills.definition import Drill, Load
from drills.evidence import Evidence, make_evidence
from drills.faults import Surge, When
from drills.judge.slos import COUNTS, GROWTH
from drills.judge.steady_state import not_steady
from drills.judge.verdict import Judgement, judge
from drills.load import routes
from drills.observed import Observation
from drills.report import archive
from drills.report.picture.scale import TimeAxis
from drills.report.picture.steps import Count, steps_panel
from drills.report.render import main
from drills.surge import BEYOND, size_load


def judged(world: World, drill: Drill | None = None, seen: Observation | None = None) -> Judgement:
    return judge(drill or plan(), seen or observation(world), records(world))


def missed(found: Judgement) -> set[str]:
    return {slo.id for slo in found.slos if not slo.passed}


def test_a_service_that_grows_shrinks_and_loses_no_request_passes() -> None:
    found = judged(GROWS)
    assert (found.verdict, found.why) == ("passed", ())
    actual = {slo.id: slo.actual for slo in found.slos}
    assert set(actual) == {*COUNTS, *GROWTH, "recovery", "redundancy"}
    assert (actual["grew"], actual["new-node"], actual["new-answered"]) == ("after 60 s", "1", "123 requests by w3")
    assert actual["recovery"] == "210.5 s"
    assert found.headline.startswith("2 times the load, more workers answered after 60 s, and nobody noticed: all 485 requests and all 485")
    assert found.workers == (), "which workers go is no promise"


@pytest.mark.parametrize("outcome", ["cut", "hung", "refused", "wrong"])
@pytest.mark.parametrize("due", [30.0, 100.0, 300.0])
def test_one_lost_request_after_the_beginning_fails_the_surge(outcome: str, due: float) -> None:
    found = judged(replace(GROWS, lost=((due, outcome),)))  # type: ignore[arg-type]
    assert found.verdict == "failed"
    assert missed(found) - {"wrong-answers"} == {"failed-requests"}
    assert "1 of 485 requests" in found.headline
    assert outcome in found.why[0]


def test_a_service_that_never_grows_fails_and_the_reason_says_whether_the_load_asked_for_more() -> None:
    found = judged(NEVER_GROWS)
    assert (found.verdict, missed(found)) == ("failed", {"grew", "new-node"})
    assert re.match(r"The surge asked for no more workers: 10\.\d requests .*those that were there are sized for 16\. Give", found.why[0])
    more = judged(NEVER_GROWS, plan(carried=8))
    assert "The service did not grow" in more.why[0]
    assert "more than the 8 that its workers are sized for" in more.why[0]


def test_a_worker_that_stays_fails_the_surge_and_is_in_the_reasons() -> None:
    found = judged(STAYS)
    assert (found.verdict, missed(found)) == ("failed", {"recovery", "redundancy"})
    assert any("3 workers instead of 2" in reason for reason in found.why)
    assert any("3 nodes instead of 2" in reason for reason in found.why)


def test_growing_or_shrinking_too_late_fails_the_surge() -> None:
    assert missed(judged(GROWS, plan(grow_within_s=50))) == {"grew"}
    assert missed(judged(GROWS, plan(shrink_within_s=150))) == {"recovery"}


def test_nodes_are_not_judged_where_they_do_not_follow_the_workers() -> None:
    whole = observation(GROWS)
    fixed = whole.model_copy(update={"snapshots": tuple(s.model_copy(update={"nodes": None, "claims": ()}) for s in whole.snapshots)})
    found = judged(GROWS, plan(nodes_follow=False), fixed)
    assert found.verdict == "passed"
    assert "new-node" not in {slo.id for slo in found.slos}
    assert found.recovery_s == 130.5, "the worker is gone, whatever becomes of its node"
    assert judged(GROWS, plan(), fixed).verdict == "aborted", "nodes that follow must be observed"


@pytest.mark.parametrize(("answered", "verdict"), [({}, "passed"), ({"w3": 0}, "failed")])
def test_a_new_worker_without_an_answer_fails_the_surge_and_one_without_metrics_does_not(answered: dict[str, int], verdict: str) -> None:
    whole = observation(GROWS)
    strikes = (whole.strikes[0].model_copy(update={"answered": answered}),)
    assert judged(GROWS, seen=whole.model_copy(update={"strikes": strikes})).verdict == verdict


def test_the_fault_in_a_surge_is_in_the_headline_and_must_have_happened() -> None:
    drill = plan("head-pod")
    found = judged(HEAD_DIES, drill)
    assert found.verdict == "passed", found.why
    assert found.headline.startswith("2 times the load, head pod deleted meanwhile, more workers answered after")
    not_done = judged(GROWS, drill)
    assert not_done.verdict == "void"
    assert "fault 2 of 2 was not done" in not_done.why[0]
    untouched = observation(HEAD_DIES).model_copy(update={"snapshots": observation(GROWS).snapshots})
    assert "the head pod has the same UID as before" in judged(HEAD_DIES, drill, untouched).why[0]
    never = judged(NEVER_GROWS, drill)
    assert never.verdict == "failed", "it never grew, which is why there was no middle"
    assert missed(never) == {"grew", "new-node"}


def test_a_surge_whose_load_stayed_as_it_was_is_void() -> None:
    short = [r for r in records(GROWS) if not r.due % 1]
    whole = observation(GROWS)
    found = judge(plan(), whole.model_copy(update={"load": sent_instead(whole, len(short))}), short)
    assert found.verdict == "void"
    assert "short requests due in the surge were sent on time" in " ".join(found.why)
    untold = whole.model_copy(update={"strikes": (whole.strikes[0].model_copy(update={"told": ""}),)})
    assert "the load was not multiplied" in judged(GROWS, seen=untold).why[0]


def test_a_service_that_does_not_grow_under_a_load_that_was_not_multiplied_has_no_verdict() -> None:
    short = [r for r in records(NEVER_GROWS) if not r.due % 1]
    whole = observation(NEVER_GROWS)
    found = judge(plan(), whole.model_copy(update={"load": sent_instead(whole, len(short))}), short)
    assert found.verdict == "void"
    assert missed(found) == {"grew", "new-node"}


@pytest.mark.parametrize(("since", "until", "within"), [(5, 100, 65), (5, 260, 600)], ids=["seen too late", "not seen"])
def test_a_growth_that_was_not_observed_is_not_held_against_the_service(since: float, until: float, within: float) -> None:
    whole = observation(GROWS)
    seen = tuple(s for s in whole.snapshots if not since < s.t - T0 < until)
    found = judged(GROWS, plan(grow_within_s=within), whole.model_copy(update={"snapshots": seen}))
    assert found.verdict == "void"
    assert "grew" in missed(found)
    assert "of the surge, and may have grown then" in " ".join(found.why)


def sent_instead(whole: Observation, sent: int) -> Any:
    assert whole.load
    return whole.load.model_copy(update={"sent": sent})


def test_a_surge_with_an_incomplete_measurement_is_void_and_a_recorded_loss_fails_it_all_the_same() -> None:
    unlucky = replace(GROWS, lost=((100.0, "cut"),))
    for world, verdict in ((GROWS, "void"), (unlucky, "failed")):
        whole = observation(world)
        fewer = judge(plan(), whole.model_copy(update={"load": sent_instead(whole, len(records(world)) + 1)}), records(world))
        assert fewer.verdict == verdict
        assert "records are missing" in " ".join(fewer.why)


def test_a_surge_with_a_hole_in_its_load_is_void() -> None:
    late = [replace(r, sent=r.sent + 2, end=r.end + 2) if 5 < r.due - T0 < 15 else r for r in records(GROWS)]
    found = judge(plan(), observation(GROWS), late)
    assert found.verdict == "void"
    assert "due in the surge were sent on time" in " ".join(found.why)


def test_rest_is_every_worker_with_a_replica_and_no_worker_or_node_too_many() -> None:
    steady = plan().steady_state
    assert not_steady(snapshot(GROWS, -1), steady) == []
    assert not_steady(snapshot(GROWS, 70), steady) == ["3 workers instead of 2", "3 nodes instead of 2"]
    assert not_steady(snapshot(GROWS, 300), steady) == ["3 nodes instead of 2"]
    assert not_steady(snapshot(GROWS, 300), plan(nodes_follow=False).steady_state) == []
    assert not_steady(snapshot(GROWS, -1).model_copy(update={"nodes": None}), steady) == ["the nodes were not observed"]
    assert steady.within_s > Drill.named("head-pod").steady_state.within_s


def test_a_surge_ends_some_time_after_the_growth_or_when_there_is_none() -> None:
    surge, strike, before = Surge(hold_s=60, grow_within_s=600), observation(GROWS).strikes[0], snapshot(GROWS, -1)
    assert surge.ends_at(before, [snapshot(GROWS, t) for t in (10, 50)], strike) == T0 + 600
    assert surge.ends_at(before, [snapshot(GROWS, t) for t in (50, 61, 70)], strike) == T0 + 121
    blind = snapshot(GROWS, 61).model_copy(update={"replicas": None})
    assert surge.ends_at(before, [blind], strike) == T0 + 600, "an endpoint without a replica answers nothing itself"


def test_a_fault_in_mid_growth_waits_for_a_worker_that_is_not_ready_yet() -> None:
    when, strike, before = When(seen="worker-starting"), observation(GROWS).strikes[0], snapshot(GROWS, -1)
    assert [when.met(before, snapshot(GROWS, t), strike) for t in (5, 20, 70)] == [False, True, False]


@given(st.integers(1, 10), st.floats(2, 144), st.integers(2, 10))
def test_a_sized_load_needs_no_more_workers_alone_and_more_when_it_is_multiplied(workers: int, ongoing: float, factor: int) -> None:
    load = size_load(workers, ongoing, factor)
    under_way = load.streams + 0.5 + 0.4 * load.short_per_s
    assert math.ceil(factor * under_way / ongoing) > workers
    if workers * ongoing >= 6:
        assert math.ceil(under_way / ongoing) <= workers
    assert load == Load(short_per_s=2, streams=load.streams)


@pytest.mark.parametrize(("workers", "ongoing", "slots"), [(1, 12, 16), (2, 12, 16), (2, 6, 8), (2, 8, 16), (4, 12, 16)])
def test_a_surge_sized_for_three_quarters_of_the_slots_fits_into_the_slots(workers: int, ongoing: float, slots: int) -> None:
    load = size_load(workers, ongoing, 2)
    assert 1 < BEYOND < 4 / 3
    assert 2 * (load.streams + 0.5 + 0.4 * load.short_per_s) <= workers * slots


# the report


def evidence(world: World) -> Evidence:
    drill = plan("none" if world.head_deleted_s is None else "head-pod")
    found = judged(world, drill)
    return make_evidence(drill, observation(world), records(world), found, target="embedded", config={"api_key": "s3cret"})


def test_the_evidence_has_the_size_whenever_it_changed() -> None:
    sizes = evidence(HEAD_DIES).sizes
    assert [(s.t, s.sets, s.ready, s.workers, s.nodes, s.launched) for s in sizes] == [
        (-19.5, 2, 2, 2, 2, 2),
        (15.5, 2, 2, 3, 2, 3),
        (16.5, None, 2, 3, 2, 3),
        (26.5, 2, 2, 3, 2, 3),
        (40.5, 2, 2, 3, 3, 3),
        (60.5, 3, 3, 3, 3, 3),
        (250.5, 2, 2, 2, 3, 3),
        (330.5, 2, 2, 2, 2, 2),
        (344.5, 2, 2, 2, 2, 2),
    ]


@pytest.mark.parametrize("world", [GROWS, HEAD_DIES, NEVER_GROWS, STAYS, replace(GROWS, lost=((30.0, "cut"),))])
def test_the_report_shows_how_the_service_followed_and_is_the_same_when_redrawn(world: World, tmp_path: Path) -> None:
    found = evidence(world)
    archive.write(tmp_path, found, records(world))
    page, written = (tmp_path / "report.html").read_text(), (tmp_path / "evidence.json").read_text()
    assert [name for name in ("Pods", "Replicas", "Workers", "Nodes of the model") if f">{name}</tspan>" not in page] == []
    assert "s3cret" not in written
    assert json.loads(written)["format"] == "leeward.evidence/2"
    assert "More workers answer" in (tmp_path / "junit.xml").read_text()
    again = tmp_path / "again.html"
    assert main([str(tmp_path / "evidence.json"), str(tmp_path / "records.jsonl"), "-o", str(again)]) == 0
    assert again.read_text() == page


def test_a_load_takes_every_factor_that_a_surge_may_have_and_no_greater_one() -> None:
    assert Surge(factor=routes.MOST).factor == routes.MOST
    with pytest.raises(ValidationError):
        Surge(factor=routes.MOST + 1)


def test_the_moments_of_the_surge_are_marked() -> None:
    def marks(world: World) -> list[str]:
        return [event.what for event in evidence(world).events if event.kind in ("fault", "milestone")]

    assert marks(GROWS) == ["2 times the load", "worker ready", "more workers answer", "surge over", "recovered"]
    assert marks(HEAD_DIES)[:2] == ["the load multiplied by 2", "delete-pod of the head, the pod's own grace period"]
    assert "more workers answer" not in marks(NEVER_GROWS)


@pytest.mark.parametrize(("leaves_s", "leaver", "kind"), [(250.0, "w3", "note"), (250.0, "w1", "note"), (100.0, "w1", "trouble")])
def test_a_worker_that_leaves_after_the_surge_is_expected_whichever_it_is(leaves_s: float, leaver: str, kind: str) -> None:
    events = evidence(replace(GROWS, leaves_s=leaves_s, leaver=leaver)).events
    assert {event.kind for event in events if event.subject == leaver and event.what == "worker gone"} == {kind}


def test_steps_are_to_scale_and_objects_that_are_not_ready_are_striped() -> None:
    axis = TimeAxis(0, 30)
    panel = steps_panel(axis, "n", "", [Count(0, 2, 2), Count(10, 2, 4), Count(20, None, 4), Count(25, 4, 4), Count(30, 4, 4)])
    bars = [
        (r.get("class"), float(r.get("x", 0)), float(r.get("width", 0)), float(r.get("height", 0)))
        for r in ElementTree.fromstring(f"<g>{panel.body}</g>").iter("rect")
    ]
    second = (axis.right - axis.left) / 30
    assert [(kind, round((x - axis.left) / second), round(w / second)) for kind, x, w, _ in bars] == [
        ("pod", 0, 10),
        ("pod", 10, 10),
        ("pod-wait", 10, 10),
        ("pod", 25, 5),
    ]
    assert [round(height / panel.height, 2) for *_, height in bars] == [0.5, 0.5, 0.5, 1]
    assert ElementTree.fromstring(f"<g>{steps_panel(TimeAxis(0, 1), 'n', '', []).body}</g>") is not None
