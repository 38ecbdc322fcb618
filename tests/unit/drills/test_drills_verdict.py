"""The verdict passes a drill only if every request was answered, and is void or aborted when nothing can be concluded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from drill_runs import DEPLOYMENTS, LOSES, SURVIVES, T0, WORKERS, World, observation, records
from hypothesis import given, settings
from hypothesis import strategies as st

from drills.definition import Drill, Load, Slos, Timing
from drills.faults import DeletePod, When
from drills.judge.slos import ALL, COUNTS, GROWTH, LATENCIES, LOSSES
from drills.judge.verdict import Judgement, judge
from drills.judge.workers import worker_proofs
from drills.observed import LoadSeen, Observation, ReplicaSeen
from drills.records import Record

DRILL = SURVIVES.drill
RECORDS, SEEN = records(SURVIVES), observation(SURVIVES)
OF_A_FAULT = set(ALL) - set(GROWTH)
"""Ids of the SLOs of a drill that is no surge."""


def verdict(those: list[Record] = RECORDS, seen: Observation = SEEN, drill: Drill = DRILL) -> Judgement:
    return judge(drill, seen, those)


def seen_with(**changes: object) -> Observation:
    return SEEN.model_copy(update=changes)


def missed(judgement: Judgement) -> set[str]:
    return {slo.id for slo in judgement.slos if not slo.passed}


def test_every_field_of_slos_is_judged_and_every_slo_has_an_id_that_doubts_can_touch() -> None:
    limits = {name: 1000.0 + n for n, name in enumerate(Slos.model_fields)}
    found = verdict(drill=DRILL.model_copy(update={"slos": Slos.model_construct(**limits)})).slos
    assert {slo.limit for slo in found if slo.limit is not None} == set(limits.values())
    assert {slo.id for slo in found} == OF_A_FAULT


def test_a_drill_that_loses_nothing_passes() -> None:
    found = verdict()
    assert (found.verdict, found.why, missed(found)) == ("passed", (), set())
    assert found.recovery_s == pytest.approx(17.3)
    assert "nobody noticed: all 800 requests and all 136 token streams" in found.headline


def test_a_drill_without_fault_tolerance_fails_and_its_reasons_say_when_and_why() -> None:
    found = judge(LOSES.drill, observation(LOSES), records(LOSES))
    assert found.verdict == "failed"
    assert missed(found) == {"failed-requests", "lost-streams", "token-gap", "workers"}
    told = " ".join(found.why)
    assert "the first 9.1 s after the fault" in told
    assert "the last 40.0 s after it" in told
    assert f"Worker {WORKERS[0]} was touched: restarted (35.3 s after the fault)" in told
    assert "GCS fault tolerance is off" in told


def test_the_reasons_of_a_failed_drill_say_what_the_head_did_for_users() -> None:
    seen = observation(LOSES)
    assert seen.before
    assert seen.before.head
    replicas = [r.model_copy(update={"pod": seen.before.head.pod}) for r in seen.before.replicas or () if r.pod == WORKERS[0]]
    alone = seen.before.model_copy(update={"workers": (), "replicas": tuple(replicas), "endpoints": (seen.before.head.pod,)})
    snapshots = tuple(alone if snapshot is seen.before else snapshot for snapshot in seen.snapshots)
    told = judge(LOSES.drill, seen.model_copy(update={"snapshots": snapshots}), records(LOSES)).why
    assert "The only replica of engine ran on the head." in told
    assert "The head was the only endpoint of the serve Service: what came in through it was lost with it." in told
    assert "and the new head knew nothing of what had run" in " ".join(told)
    assert "ran on the head" not in " ".join(judge(LOSES.drill, seen, records(LOSES)).why)


@settings(max_examples=60)
@given(st.sets(st.integers(0, len(RECORDS) - 1), min_size=1, max_size=20), st.sampled_from(["cut", "hung", "refused", "wrong"]))
def test_no_drill_with_a_failed_request_passes(which: set[int], outcome: str) -> None:
    bad = [replace(r, outcome=outcome) if n in which else r for n, r in enumerate(RECORDS)]  # type: ignore[arg-type]
    found = verdict(bad)
    assert found.verdict in ("failed", "void")
    assert found.why
    assert missed(found) & {"failed-requests", "lost-streams"}


@settings(max_examples=40)
@given(st.data())
def test_no_drill_with_missing_records_passes(data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(0, len(RECORDS) - 1), min_size=1))
    found = verdict([r for n, r in enumerate(RECORDS) if n not in gone])
    assert found.verdict == "void"


def test_a_failed_request_may_be_within_what_is_promised() -> None:
    lenient = DRILL.model_copy(update={"slos": Slos(max_failed_requests=1)})
    late = next(n for n, r in enumerate(RECORDS) if r.due > T0 + 5)
    bad = [replace(r, outcome="refused") if n == late else r for n, r in enumerate(RECORDS)]
    found = verdict(bad, drill=lenient)
    assert found.verdict == "passed"
    assert "within what was promised" in found.headline
    assert verdict(bad).verdict == "failed"


@pytest.mark.parametrize(("limit", "standing"), [(3, "missed"), (20, "kept")])
def test_losses_that_are_allowed_must_end_some_time_after_the_fault(limit: float, standing: str) -> None:
    slos = Slos(max_failed_requests=9, losses_end_within_s=limit)
    late = next(n for n, r in enumerate(RECORDS) if r.due > T0 + 12)
    bad = [replace(r, outcome="refused") if n == late else r for n, r in enumerate(RECORDS)]
    found = next(slo for slo in verdict(bad, drill=DRILL.model_copy(update={"slos": slos})).slos if slo.id == "losses-end")
    assert (found.standing, round(found.value or 0)) == (standing, 12)
    lasts = SEEN.strikes[0].model_copy(update={"ended": T0 + 10})
    found = next(
        slo for slo in verdict(bad, seen_with(strikes=(lasts,)), DRILL.model_copy(update={"slos": slos})).slos if slo.id == "losses-end"
    )
    assert (found.standing, round(found.value or 0)) == ("kept", 2), "a fault that lasts is over later"


def test_recovery_counts_from_the_end_of_a_fault_that_lasts_and_not_before_it() -> None:
    lasts = SEEN.strikes[0].model_copy(update={"ended": T0 + 30})
    found = verdict(seen=seen_with(strikes=(lasts,)))
    assert (found.verdict, found.recovered_at, found.recovery_s) == ("passed", T0 + 30.3, pytest.approx(0.3))


def test_a_drill_whose_second_fault_was_not_done_proves_nothing() -> None:
    two = DRILL.model_copy(update={"faults": (*DRILL.faults, DeletePod(of="worker", when=When(seen="head-down")))})
    found = verdict(drill=two)
    assert found.verdict == "void"
    assert "fault 2 of 2 was not done (delete-pod of the worker" in found.why[0]


def test_slow_answers_fail_in_the_phase_where_they_were() -> None:
    slow = [replace(r, end=r.end + 6) if r.kind == "short" and T0 + 2 < r.due < T0 + 10 else r for r in RECORDS]
    assert missed(verdict(slow)) == {"p99-during"}


def test_streams_that_are_silent_before_their_first_token_fail() -> None:
    def later(r: Record) -> Record:
        return replace(r, first_token=r.token_times[0] + 6, token_times=tuple(t + 6 for t in r.token_times), end=r.end + 6)

    slow = [later(r) if r.kind == "stream" and T0 + 2 < r.due < T0 + 10 else r for r in RECORDS]
    assert missed(verdict(slow)) == {"token-gap"}


def test_a_service_that_does_not_recover_fails() -> None:
    never = World(head_ready_s=1000)
    found = judge(DRILL, observation(never), records(never))
    assert found.verdict == "failed"
    assert found.recovery_s is None
    assert {"recovery", "redundancy"} <= missed(found)


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_one_new_replica_on_an_untouched_pod_is_found(deployment: str) -> None:
    def renewed(replicas: Iterable[ReplicaSeen]) -> tuple[ReplicaSeen, ...]:
        mine = (deployment, WORKERS[0])
        return tuple(r.model_copy(update={"actor_id": "fresh"}) if (r.deployment, r.pod) == mine else r for r in replicas)

    snapshots = [s.model_copy(update={"replicas": renewed(s.replicas)}) if s.t > T0 and s.replicas else s for s in SEEN.snapshots]
    found = verdict(seen=seen_with(snapshots=tuple(snapshots)))
    assert missed(found) == {"workers"}
    assert f"its {deployment} replica is another one: it was loaded again" in " ".join(found.why)
    assert next(slo for slo in found.slos if slo.id == "workers").value == 1


def test_a_replaced_worker_counts_once() -> None:
    def swap(uid: str, pod: str) -> tuple[object, ...]:
        return tuple(w.model_copy(update={"uid": uid, "pod": pod}) if w.pod == WORKERS[0] else w for w in SEEN.snapshots[0].workers)

    snapshots = [s.model_copy(update={"workers": swap("9999", "mistral-worker-new")}) if s.t > T0 + 5 else s for s in SEEN.snapshots]
    found = verdict(seen=seen_with(snapshots=tuple(snapshots)))
    assert next(slo for slo in found.slos if slo.id == "workers").value == 1
    assert [(w.uid_before is None, w.uid_after is None) for w in found.workers] == [(False, True), (False, False), (True, False)]


def test_a_worker_of_which_nothing_is_known_is_not_proven_untouched() -> None:
    blind = [s.model_copy(update={"replicas": None}) if s.t > T0 else s for s in SEEN.snapshots]
    assert "workers" in missed(verdict(seen=seen_with(snapshots=tuple(blind))))


def test_replicas_unknown_before_and_after_are_no_proof_either() -> None:
    blind = tuple(s.model_copy(update={"replicas": None}) for s in SEEN.snapshots)
    assert all("unknown" in " ".join(w.touched) for w in worker_proofs(seen_with(snapshots=blind)))


def test_lost_redundancy_fails_the_drill_even_if_every_request_was_answered() -> None:
    snapshots = [
        s.model_copy(
            update={
                "endpoints": s.endpoints[:1],
                "replicas": s.replicas and tuple(r.model_copy(update={"node": "inf2-1"}) for r in s.replicas),
            }
        )
        if s.t > T0
        else s
        for s in SEEN.snapshots
    ]
    found = verdict(seen=seen_with(snapshots=tuple(snapshots)))
    assert missed(found) >= {"recovery", "redundancy"}
    assert "no request was lost" in found.headline


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (seen_with(aborted="stopped by a person"), "Stopped by a person."),
        (seen_with(snapshots=()), "was not observed before the fault"),
        (seen_with(snapshots=(SEEN.snapshots[0].model_copy(update={"endpoints": ()}), *SEEN.snapshots[21:])), "0 endpoints ready"),
    ],
)
def test_a_drill_is_aborted_when(seen: Observation, reason: str) -> None:
    found = verdict(seen=seen)
    assert found.verdict == "aborted"
    assert reason in found.why[0]


@pytest.mark.parametrize(
    ("those", "seen", "reason"),
    [
        ([], SEEN, "no records"),
        (RECORDS, seen_with(load=None), "could not be asked what it sent"),
        (RECORDS[1:], SEEN, "1 of 936 records are missing"),
        ([*RECORDS, RECORDS[0]], SEEN, "1 records are there twice"),
        (RECORDS, seen_with(fault_at=None), "fault was not injected"),
        (RECORDS, seen_with(snapshots=SEEN.snapshots[:19]), "not observed after the fault"),
        (
            RECORDS,
            seen_with(snapshots=tuple(s.model_copy(update={"head": SEEN.snapshots[0].head}) for s in SEEN.snapshots)),
            "same UID as before",
        ),
        ([replace(r, outcome="refused") if r.id == 5 else r for r in RECORDS], SEEN, "failed 1 requests and 0 streams before the fault"),
        ([replace(r, end=r.end + 3) if r.due < T0 - 5 and r.kind == "short" else r for r in RECORDS], SEEN, "too slow before the fault"),
        ([replace(r, sent=r.sent + 2) if r.id % 10 == 0 else r for r in RECORDS], SEEN, "in total were sent on time"),
        (
            [replace(r, sent=r.sent + 2) if 0 < r.due - T0 < 2 else r for r in RECORDS],
            SEEN,
            "between the fault and recovery were sent on time",
        ),
    ],
)
def test_the_measurement_is_void_when(those: list[Record], seen: Observation, reason: str) -> None:
    found = verdict(those, seen)
    assert found.verdict == "void"
    assert any(reason in told for told in found.why), found.why


def load(sent: int, stopped: float = T0 + 60) -> LoadSeen:
    return LoadSeen(started=T0 - 20, stopped=stopped, sent=sent)


def test_the_measurement_is_void_when_the_load_ended_by_itself_soon_after_recovery() -> None:
    those = [r for r in RECORDS if r.due < T0 + 22]
    found = verdict(those, seen_with(load=load(len(those), T0 + 22)))
    assert found.verdict == "void"
    assert any("due after recovery" in told for told in found.why)


def test_a_load_too_small_to_show_anything_during_the_outage_makes_the_drill_void() -> None:
    thin = replace(SURVIVES, short_per_s=0.05, streams=0, drill=DRILL.model_copy(update={"load": Load(short_per_s=0.05, streams=0)}))
    those = [r for r in records(thin) if not T0 <= r.due < T0 + 18]
    seen = observation(thin).model_copy(update={"load": load(len(those))})
    found = judge(thin.drill, seen, those)
    assert missed(found) == {"p99-during"}
    assert found.verdict == "void"
    assert "Only 0 of 1 short requests due between the fault and recovery" in found.why[0]


@pytest.mark.parametrize("of_requests_that_are_there", [False, True])
def test_records_of_another_load_make_the_drill_void(of_requests_that_are_there: bool) -> None:
    shift = 0 if of_requests_that_are_there else 10_000
    others = [replace(r, id=r.id + shift, outcome="refused") for r in RECORDS[300:330]]
    found = verdict([*RECORDS, *others])
    assert found.verdict == "void"
    assert "some are another load's" in found.why[0]
    assert in_doubt(found) == {*COUNTS, *LATENCIES}


def unseen(since: float, until: float) -> Observation:
    """Return the observation without snapshots between these seconds."""
    return seen_with(snapshots=tuple(s for s in SEEN.snapshots if not since < s.t - T0 < until))


def test_an_unobserved_recovery_is_not_judged_to_be_too_late() -> None:
    hasty = DRILL.model_copy(update={"slos": Slos(max_recovery_s=20), "timing": Timing(after_s=10)})
    found = verdict(seen=unseen(5, 45), drill=hasty)
    assert missed(found) == {"recovery"}
    assert found.verdict == "void"
    assert "The service was not observed from 4 to 45 s after the fault" in found.why[0]
    assert verdict(seen=unseen(25, 45), drill=hasty).verdict == "passed", "it was seen to have recovered"
    slow = World(head_ready_s=30)
    assert judge(hasty, observation(slow), records(slow)).verdict == "failed", "it was seen not to have"


def test_a_loss_fails_the_drill_also_when_the_recovery_was_not_observed() -> None:
    hasty = DRILL.model_copy(update={"slos": Slos(max_recovery_s=20), "timing": Timing(after_s=10)})
    late = next(n for n, r in enumerate(RECORDS) if r.due > T0 + 5)
    bad = [replace(r, outcome="refused") if n == late else r for n, r in enumerate(RECORDS)]
    assert verdict(bad, unseen(5, 45), hasty).verdict == "failed"


def in_doubt(judgement: Judgement) -> set[str]:
    return {slo.id for slo in judgement.slos if slo.standing == "in doubt"}


def late(n: int) -> Record:
    """Return a request that was due long after the fault."""
    return next(r for r in RECORDS if r.kind == "short" and r.due > T0 + 5 + n)


def test_losses_after_the_fault_fail_a_drill_that_was_slow_before_it() -> None:
    lost = {late(n).id for n in range(2)} | {r.id for r in [r for r in RECORDS if r.kind == "stream" and r.due > T0 + 5][:7]}
    slow = [replace(r, end=r.end + 2) if r.kind == "short" and r.due < T0 - 5 else r for r in RECORDS]
    found = verdict([replace(r, outcome="cut") if r.id in lost else r for r in slow])
    assert found.verdict == "failed"
    assert "users noticed: 2 of 800 requests and 7 of 136 token streams were lost" in found.headline
    assert in_doubt(found) == {"p99-before"}
    assert found.why[-1].startswith("In doubt (Latency, p99, before the fault): the service was too slow before the fault: p99 2,0")


Kit = tuple[list[Record], Observation]


def sending(kit: Kit, those: list[Record], **load: float) -> Kit:
    """Return the measurement of a load that sent these requests and no others."""
    seen = kit[1]
    told = seen.load and seen.load.model_copy(update={"sent": len(those), **load})
    return those, seen.model_copy(update={"load": told})


def changed(kit: Kit, change: Callable[[Record], Record]) -> Kit:
    return [change(r) for r in kit[0]], kit[1]


def looking(kit: Kit, **changes: object) -> Kit:
    return kit[0], kit[1].model_copy(update=changes)


HASTY = DRILL.model_copy(update={"slos": Slos(max_recovery_s=20, losses_end_within_s=600), "timing": Timing(after_s=10)})
BREAKS: dict[str, Callable[[Kit], Kit]] = {
    "records are missing": lambda kit: (kit[0][::2], kit[1]),
    "the load could not be asked": lambda kit: looking(kit, load=None),
    "records are there twice": lambda kit: ([*kit[0], *kit[0][-9:]], kit[1]),
    "requests failed before the fault": lambda kit: changed(kit, lambda r: replace(r, outcome="refused") if r.end < T0 - 15 else r),
    "the service was slow before the fault": lambda kit: changed(kit, lambda r: replace(r, end=r.end + 4) if r.end < T0 - 5 else r),
    "the load was late": lambda kit: changed(kit, lambda r: replace(r, sent=r.sent + 2) if r.id % 10 == 0 else r),
    "the load stalled": lambda kit: sending(kit, [r for r in kit[0] if not T0 + 3 < r.due < T0 + 8]),
    "the load began after the fault": lambda kit: sending(kit, [r for r in kit[0] if r.due > T0], started=T0),
    "the load ended too early": lambda kit: sending(kit, [r for r in kit[0] if r.due < T0 + 10], stopped=T0 + 10),
    "no stream was alive at the fault": lambda kit: sending(kit, [r for r in kit[0] if r.kind == "short" or not r.sent <= T0 <= r.end]),
    "the fault did not happen": lambda kit: looking(
        kit, snapshots=tuple(s.model_copy(update={"head": SEEN.snapshots[0].head}) for s in kit[1].snapshots)
    ),
    "there is no snapshot after the fault": lambda kit: looking(kit, snapshots=tuple(s for s in kit[1].snapshots if s.t < T0)),
    "there is no snapshot of the recovery": lambda kit: looking(kit, snapshots=tuple(s for s in kit[1].snapshots if not 5 < s.t - T0 < 45)),
    "it was stopped after the fault": lambda kit: looking(kit, aborted="another run took over"),
    "it was not steady before the fault": lambda kit: looking(
        kit, snapshots=tuple(s.model_copy(update={"endpoints": ()}) if s.t < T0 else s for s in kit[1].snapshots)
    ),
}
"""Everything that can be wrong with a measurement, as a change of a correct one."""


def broken(names: Iterable[str]) -> Kit:
    kit: Kit = (RECORDS, SEEN)
    for name in names:
        kit = BREAKS[name](kit)
    return kit


@settings(max_examples=60)
@given(st.data())
def test_a_loss_after_the_fault_fails_the_drill_whatever_is_wrong_with_the_measurement(data: st.DataObject) -> None:
    those, seen = broken(data.draw(st.sets(st.sampled_from(sorted(BREAKS)))))
    later = [r.id for r in those if r.end > T0]
    lost = data.draw(st.sets(st.sampled_from(later), min_size=1, max_size=5))
    outcome = data.draw(st.sampled_from(["cut", "hung", "refused", "wrong"]))
    found = verdict([replace(r, outcome=outcome) if r.id in lost else r for r in those], seen, HASTY)
    assert found.verdict == "failed", found.why
    assert {slo.id for slo in found.slos if slo.standing == "missed"} & set(COUNTS)
    assert "users noticed" in found.headline.lower()


@settings(max_examples=60)
@given(st.sets(st.sampled_from(sorted(BREAKS)), min_size=1))
def test_a_drill_without_a_loss_after_the_fault_has_no_verdict_when_anything_is_wrong_with_its_measurement(
    names: set[str],
) -> None:
    found = verdict(*broken(names), HASTY)
    assert found.verdict == ("aborted" if names & {"it was stopped after the fault", "it was not steady before the fault"} else "void")
    assert found.why
    assert in_doubt(found)


@pytest.mark.parametrize(
    ("name", "doubted"),
    [
        ("the load could not be asked", {*LOSSES, *LATENCIES}),
        ("records are there twice", {*LOSSES, *LATENCIES}),
        ("requests failed before the fault", {*LOSSES}),
        ("the service was slow before the fault", {"p99-before"}),
        ("the load was late", {*LOSSES, *LATENCIES}),
        ("the load ended too early", {*LOSSES, "p99-during", "p99-after", "token-gap"}),
        ("no stream was alive at the fault", {"lost-streams", "wrong-answers", "losses-end", "token-gap"}),
        ("the fault did not happen", OF_A_FAULT),
        ("there is no snapshot after the fault", OF_A_FAULT),
        ("there is no snapshot of the recovery", {"recovery"}),
    ],
)
def test_a_doubt_touches_what_it_makes_uncertain_and_nothing_else(name: str, doubted: set[str]) -> None:
    assert in_doubt(verdict(*broken([name]), HASTY)) == doubted


def test_a_missed_promise_that_needs_no_records_fails_a_drill_without_records() -> None:
    touched = tuple(
        s.model_copy(update={"workers": tuple(w.model_copy(update={"restarts": 1}) for w in s.workers)}) if s.t > T0 else s
        for s in SEEN.snapshots
    )
    found = verdict([], seen_with(snapshots=touched))
    assert found.verdict == "failed"
    assert in_doubt(found) == {*COUNTS, *LATENCIES}
    assert "no loss is on record" in found.headline


def test_a_duplicate_record_does_not_count_as_a_second_loss() -> None:
    lenient = DRILL.model_copy(update={"slos": Slos(max_failed_requests=1)})
    bad = [replace(r, outcome="refused") if r.id == late(0).id else r for r in RECORDS]
    twice = [*bad, *(r for r in bad if not r.ok)]
    assert verdict(twice, drill=lenient).verdict == "void"
    assert verdict(twice).verdict == "failed"


def test_requests_that_failed_before_the_fault_are_not_attributed_to_it() -> None:
    lenient = DRILL.model_copy(update={"slos": Slos(max_failed_requests=2)})
    before = {r.id for r in RECORDS if r.kind == "short" and r.end < T0 - 15}

    def losing(*after: Record) -> Judgement:
        lost = before | {r.id for r in after}
        return verdict([replace(r, outcome="refused") if r.id in lost else r for r in RECORDS], drill=lenient)

    assert losing(late(0), late(1)).verdict == "void"
    assert losing(late(0), late(1), late(2)).verdict == "failed"


def test_losses_in_a_drill_without_its_fault_are_reported_and_not_attributed_to_the_fault() -> None:
    those, seen = broken(["the fault did not happen"])
    found = verdict([replace(r, outcome="refused") if r.id == late(0).id else r for r in those], seen)
    assert found.verdict == "failed"
    assert found.headline.startswith("Users noticed in the drill")
    assert "It is not known that its fault happened" in found.headline
    assert any("the head pod has the same UID as before" in told for told in found.why)


def test_a_clock_offset_changes_nothing() -> None:
    ahead = replace(SURVIVES, clock_offset_s=-123.456)
    found = judge(DRILL, observation(ahead), records(ahead))
    assert (found.verdict, found.recovery_s) == ("passed", verdict().recovery_s)
    assert [p.requests for p in found.phases] == [p.requests for p in verdict().phases]


def test_the_two_losing_drills_are_not_void() -> None:
    """A drill without fault tolerance must end as failed: void would hide what it shows."""
    for seed in range(5):
        world = replace(LOSES, seed=seed)
        assert judge(world.drill, observation(world), records(world)).verdict == "failed"
