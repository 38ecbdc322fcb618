"""The verdict on a surge: the service grows, shrinks and loses no request; and when nothing can be concluded."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from surge_runs import GROWS, HEAD_DIES, NEVER_GROWS, PLAN, STAYS, T0, World, records, sample, seen, told

from drills.definition import Load
from drills.surge.judgement import BEYOND, Judgement, Plan, judge, merge_records, size_load
from drills.surge.sample import not_at_rest, read_samples, surplus


def judged(world: World, plan: Plan = PLAN) -> Judgement:
    return judge(plan, seen(world), records(world))


def kept(found: Judgement) -> dict[str, bool]:
    return {promise.id: promise.passed for promise in found.promises}


def test_a_service_that_grows_shrinks_and_loses_no_request_passes() -> None:
    found = judged(GROWS)
    assert (found.verdict, found.why) == ("passed", ())
    assert all(kept(found).values())
    assert (found.most_workers, found.most_engines, found.most_nodes) == (3, 3, 3)
    (new,) = found.newcomers
    assert (new.pod, new.node, new.new_node, new.answered) == ("w3", "n3", True, 123)
    assert new.after_s == 60.5
    assert found.workers_back_at == T0 + 250.5
    assert found.nodes_back_at == T0 + 330.5
    assert "2 times the load: 3 workers instead of 2, the first new one after 60 s" in found.headline
    assert "as before 210 s after its end" in found.headline


def test_each_request_is_in_the_phase_in_which_it_was_due() -> None:
    phases = {phase.name: phase for phase in judged(GROWS).phases}
    assert list(phases) == ["before", "growing", "grown", "after"]
    assert sum(phase.requests for phase in phases.values()) == len(records(GROWS))
    assert phases["before"].seconds == 20
    assert phases["growing"].under_way == pytest.approx(2 * 5.4, rel=0.15)
    assert phases["after"].under_way == pytest.approx(5.4, rel=0.15)
    assert phases["grown"].p99_ms == pytest.approx(400)


@pytest.mark.parametrize("outcome", ["cut", "hung", "refused", "wrong"])
@pytest.mark.parametrize("due", [-10.0, 30.0, 100.0, 300.0])
def test_one_lost_request_in_any_phase_fails_the_surge(outcome: str, due: float) -> None:
    found = judged(replace(GROWS, lost=((due, outcome),)))  # type: ignore[arg-type]
    assert found.verdict == "failed"
    assert [name for name, passed in kept(found).items() if not passed] == ["failed-requests"]
    assert "1 of" in found.headline
    assert outcome in found.why[0]
    assert sum(phase.failed for phase in found.phases) == 1


def test_a_service_that_never_grows_fails_and_the_reason_says_whether_the_load_asked_for_more() -> None:
    found = judged(NEVER_GROWS)
    assert found.verdict == "failed"
    assert not kept(found)["grew"]
    assert found.newcomers == ()
    assert "asked for no more workers" in found.why[0]
    assert "did not grow" in judged(NEVER_GROWS, PLAN.model_copy(update={"ongoing_requests": 4})).why[0]


def test_a_worker_that_stays_fails_the_surge_and_is_in_the_reasons() -> None:
    found = judged(STAYS)
    assert found.verdict == "failed"
    assert {name for name, passed in kept(found).items() if not passed} == {"workers-back", "nodes-back"}
    assert any("3 workers instead of 2" in reason for reason in found.why)


def test_growing_or_shrinking_too_late_fails_the_surge() -> None:
    assert not kept(judged(GROWS, PLAN.model_copy(update={"grow_within_s": 50})))["grew"]
    late = kept(judged(GROWS, PLAN.model_copy(update={"shrink_within_s": 150})))
    assert (late["workers-back"], late["nodes-back"]) == (True, False)


def test_nodes_are_not_judged_where_they_do_not_follow_the_workers() -> None:
    fixed = seen(GROWS)
    three = {"nodes": ("n1", "n2", "n3"), "claims": ()}
    assert fixed.before
    before = fixed.before.model_copy(update=three)
    fixed = fixed.model_copy(update={"before": before, "samples": tuple(s.model_copy(update=three) for s in fixed.samples)})
    found = judge(PLAN.model_copy(update={"nodes_follow": False}), fixed, records(GROWS))
    assert found.verdict == "passed"
    assert not {"new-node", "nodes-back"} & set(kept(found))
    assert judge(PLAN, fixed, records(GROWS)).verdict == "failed"


def test_a_new_worker_without_an_answer_fails_the_surge_and_one_without_metrics_does_not() -> None:
    silent = seen(GROWS).model_copy(update={"answered": {}})
    assert judge(PLAN, silent, records(GROWS)).verdict == "passed"
    idle = seen(GROWS).model_copy(update={"answered": {"w3": 0}})
    assert judge(PLAN, idle, records(GROWS)).verdict == "failed"


def test_the_fault_in_a_surge_is_in_the_headline_and_must_have_happened() -> None:
    plan = PLAN.model_copy(update={"fault": "head-pod"})
    found = judged(HEAD_DIES, plan)
    assert found.verdict == "passed"
    assert "in spite of the fault (head pod deleted)" in found.headline
    assert judged(GROWS, plan).verdict == "void"
    untouched = seen(HEAD_DIES).model_copy(update={"samples": seen(GROWS).samples})
    assert "the head pod has the same UID as before" in judge(plan, untouched, records(GROWS)).why[0]
    assert judged(NEVER_GROWS, plan).verdict == "failed", "it never grew, which is why there was no middle"


def test_a_surge_with_an_incomplete_measurement_is_void() -> None:
    whole = seen(GROWS)
    base, more = whole.loads
    for loads, words in (
        ((base, more.model_copy(update={"records": more.records - 1})), "records of them"),
        ((base, more.model_copy(update={"seen": None, "trouble": "gone"})), "gone"),
        ((told("load-1", T0 - 20, T0 + 200, base.records), more), "too early"),
        ((base,), "1 loads were there instead of 2"),
    ):
        found = judge(PLAN, whole.model_copy(update={"loads": loads}), records(GROWS))
        assert found.verdict == "void"
        assert words in found.why[0]
    assert judge(PLAN, whole, []).verdict == "void"
    assert judge(PLAN, whole.model_copy(update={"samples": ()}), records(GROWS)).verdict == "void"


def test_a_recorded_loss_fails_the_surge_whatever_else_is_wrong_unless_the_records_may_be_another_loads() -> None:
    unlucky = replace(GROWS, lost=((100.0, "cut"),))
    whole = seen(unlucky)
    base, more = whole.loads
    fewer, others = (more.model_copy(update={"records": more.records + by}) for by in (-1, 1))
    for changes, verdict, words in (
        ({"loads": (base, fewer)}, "failed", "records of them"),
        ({"loads": (base,)}, "failed", "1 loads were there instead of 2"),
        ({"samples": ()}, "failed", "not observed"),
        ({"loads": (base, others)}, "void", "records of them"),
    ):
        found = judge(PLAN, whole.model_copy(update=changes), records(unlucky))
        assert found.verdict == verdict
        assert words in found.why[-1]
        assert found.why[0].startswith("Failed requests: 1 of" if verdict == "failed" else "The load")


def test_a_surge_with_a_hole_in_its_load_is_void() -> None:
    those = [replace(r, sent=r.sent + 2) if 5 < r.due - T0 < 15 else r for r in records(GROWS)]
    found = judge(PLAN, seen(GROWS), those)
    assert found.verdict == "void"
    assert "due in the surge were sent more than 1 s late" in found.why[0]


def test_without_a_service_at_rest_the_surge_is_aborted() -> None:
    stopped = seen(GROWS).model_copy(update={"surge_at": None, "before": None, "ended_at": None, "aborted": "3 workers instead of 2"})
    found = judge(PLAN, stopped, records(GROWS))
    assert (found.verdict, found.promises) == ("aborted", ())
    assert "3 workers instead of 2" in found.headline


def test_rest_is_every_worker_with_an_engine_and_no_node_too_many() -> None:
    assert not_at_rest(sample(GROWS, -1), 2, 2) == []
    assert not_at_rest(sample(GROWS, 70), 2, 2) == [
        "3 engines run instead of 2",
        "3 workers, 3 of them ready, instead of 2",
        "3 workers answer instead of 2",
        "3 inf2 nodes, 3 of them ready, instead of 2",
    ]
    assert not_at_rest(sample(GROWS, 300), 2, 2) == ["3 inf2 nodes, 3 of them ready, instead of 2"]
    assert not_at_rest(sample(GROWS, 300), 2, None) == []
    assert "the head is not ready" in not_at_rest(sample(HEAD_DIES, 20), 2, 2)


def test_surplus_workers_and_surplus_nodes_are_reported_separately() -> None:
    before = sample(GROWS, -1)
    assert surplus(sample(GROWS, 300), before) == ("", "3 inf2 nodes instead of 2")
    assert surplus(sample(GROWS, 340), before) == ("", "")
    assert surplus(sample(GROWS, 20), before)[0] == "3 workers instead of 2, 2 of which answer"


def test_records_of_several_loads_are_merged_on_the_observers_clock() -> None:
    those = records(GROWS)[:6]
    ahead = [replace(r, due=r.due + 7, sent=r.sent + 7, end=r.end + 7) for r in those]
    found = merge_records([(those, 0.0), (ahead, 7.0)])
    assert [r.id for r in found] == list(range(12))
    assert [r.due for r in found] == sorted(r.due for r in those * 2)


def test_samples_are_read_line_by_line_without_a_broken_last_one(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    assert read_samples(file) == []
    file.write_text(sample(GROWS, 1).model_dump_json() + "\n" + sample(GROWS, 2).model_dump_json()[:20])
    assert read_samples(file) == [sample(GROWS, 1)]


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
