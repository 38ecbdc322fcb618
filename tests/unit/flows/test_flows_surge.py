"""A surge: refusals before anything is changed, the order of its steps, and that no load and no lock is left whatever fails."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from drill_runs import deleted
from held_lock import holding_lock
from prefect.exceptions import ParameterTypeError
from surge_runs import GROWS, sample

from blocks.parameters import Inf2Nodes, Infrastructure, Scaling, Service
from blocks.register import TargetData
from drills.definition import Load
from drills.runner.watch import NotSteady
from drills.stages.run import Result
from drills.surge.judgement import LoadResult, Plan, Seen
from flows import checks, stages, surge_stages
from flows.surge import surge
from tasks.support import site
from tasks.support.site import Site

INFRASTRUCTURE = Infrastructure(inf2_nodes=Inf2Nodes(count=4))
SERVICE = Service(scaling=Scaling(max_workers=4, ongoing_requests=8))
SITE = Site(target="t", infrastructure=INFRASTRUCTURE)


@pytest.fixture(autouse=True)
def saved(monkeypatch: pytest.MonkeyPatch) -> None:
    target = TargetData(access_key_id="a", secret_access_key="b").target()  # type: ignore[arg-type]  # validated
    monkeypatch.setattr(site, "load_target", lambda name: target)


def planned(service: Service = SERVICE, load: Load | None = None, **changes: Any) -> Plan:
    given: dict[str, Any] = {"factor": 2, "surge_s": 60, "grow_within_s": 600, "shrink_within_s": 900, "fault": "none", **changes}
    return surge_stages.checked_plan(SITE, service, load, **given)


@pytest.mark.parametrize(
    ("service", "load", "words"),
    [
        (Service(), None, "the service has no scaling"),
        (Service(workers=2, scaling=Scaling(max_workers=2)), None, "cannot grow"),
        (SERVICE, Load(streams=16), "16 live streams are no base load: 2 workers are sized for 16"),
    ],
)
def test_a_service_that_cannot_grow_is_refused_with_the_reason(service: Service, load: Load | None, words: str) -> None:
    with pytest.raises(checks.BadParameters, match=words):
        planned(service, load)


@pytest.mark.parametrize(
    ("scaling", "within", "words"),
    [
        ({"up_after_s": 600}, {"grow_within_s": 600}, r"grow_within_s \(600\): scaling.up_after_s alone is 600"),
        ({"down_after_s": 780}, {}, r"shrink_within_s \(900\): scaling.down_after_s \(780\) .*idle_worker_s \(60\) .*empty_for_s \(60\)"),
        ({"idle_worker_s": 720}, {}, "take longer"),
        ({}, {"shrink_within_s": 240}, "take longer"),
    ],
)
def test_times_that_cannot_be_kept_are_refused(scaling: dict[str, Any], within: dict[str, float], words: str) -> None:
    service = Service(scaling=Scaling(max_workers=4, ongoing_requests=8, **scaling))
    with pytest.raises(checks.BadParameters, match=words):
        planned(service, **within)


def test_times_that_can_just_be_kept_are_accepted() -> None:
    service = Service(scaling=Scaling(max_workers=4, ongoing_requests=8, up_after_s=599, down_after_s=779))
    assert planned(service).shrink_within_s == 900
    managed = Site(target="t", infrastructure=Infrastructure(inf2_nodes=Inf2Nodes(count=4, provisioner="managed")))
    assert surge_stages.checked_plan(managed, SERVICE, None, 2, 60, 600, 200, "none"), "no node has to go"


def test_a_refused_surge_changes_nothing_and_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surge_stages, "take_lock", lambda *_, **__: pytest.fail("touched"))
    state = surge.fn("t", INFRASTRUCTURE, Service())
    assert (state.name, state.is_failed()) == ("BadParameters", True)
    assert "no scaling" in (state.message or "")
    assert surge.fn("t", Infrastructure(), SERVICE).name == "BadParameters", "four workers need four nodes"


def test_the_base_load_is_calculated_for_the_service_unless_it_is_given() -> None:
    assert planned().load == Load(short_per_s=2, streams=9)
    mine = Load(short_per_s=1, streams=5)
    assert planned(load=mine).load == mine


def test_the_base_load_is_calculated_for_the_engine_by_default() -> None:
    unsaid = Service(scaling=Scaling(max_workers=4))
    assert planned(unsaid).ongoing_requests == 6
    assert planned(unsaid.model_copy(update={"engine": "cpu"})).ongoing_requests == 12


def test_nodes_are_judged_only_if_karpenter_launches_them() -> None:
    assert planned().nodes_follow
    managed = Site(target="t", infrastructure=Infrastructure(inf2_nodes=Inf2Nodes(count=4, provisioner="managed")))
    assert not surge_stages.checked_plan(managed, SERVICE, None, 2, 60, 600, 900, "none").nodes_follow


@pytest.mark.parametrize("wrong", [{"factor": 1}, {"factor": 11}, {"surge_s": 0}, {"fault": "worker"}])
def test_parameters_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterTypeError):
        surge.validate_parameters({"target": "t", **wrong})


class Steps:
    """Replaces the tasks and records the calls; one task may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: str = "", *, grows: bool = True) -> None:
        self.called: list[str] = []
        self.seen: list[Seen] = []
        self._failing: Any = failing
        from drills.runner.journal import Journal

        answers: dict[str, Any] = {
            "take_lock": Journal(owner="12345678-a", drill="surge", started=1.0),
            "check_service": None,
            "wait_until_at_rest": sample(GROWS, -1),
            "start_loads": 1000.0,
            "inject_in_growth": deleted("head", "old", 1016.0).strikes,
            "wait_for_growth": sample(GROWS, 70) if grows else None,
            "hold_surge": {"w3": 5},
            "end_loads": [LoadResult(name="x")],
            "wait_for_shrinking": True,
            "undo_faults": [],
            "remove_run_loads": [],
            "release_lock": None,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(surge_stages, name, self._step(name, answer))
        monkeypatch.setattr(surge_stages, "judge_surge", self._judge)
        monkeypatch.setattr(surge_stages, "holding_lock", holding_lock)
        monkeypatch.setattr(surge_stages, "sampled", lambda *_: nullcontext(lambda: None))
        monkeypatch.setattr(stages.Run, "folder", tmp_path)

    def _step(self, name: str, answer: Any) -> Any:
        def step(*arguments: Any, **_: Any) -> Any:
            names = next((a for a in arguments if isinstance(a, list)), [])
            self.called.append(f"{name} {' '.join(names)}".strip())
            if isinstance(self._failing, dict) and name in self._failing:
                raise self._failing[name]
            if name == self._failing:
                raise RuntimeError(name)
            return answer

        return step

    def _judge(self, _site: Any, _service: Any, _plan: Any, seen: Seen, *_: Any) -> Result:
        self.called.append("judge")
        self.seen.append(seen)
        return Result(verdict="passed", headline="It grew.", folder=Path("/x"))

    def fail_with(self, name: str, error: Exception) -> None:
        self._failing = {name: error}


RUN = stages.Run("12345678-a", "calm-otter")
BASE = "load-12345678-19700101t000001"
MORE = f"{BASE}-2"
ALL = [
    "take_lock",
    "remove_run_loads",
    "check_service",
    f"start_loads {BASE}",
    "wait_until_at_rest",
    f"start_loads {MORE}",
    "wait_for_growth",
    "hold_surge",
    f"end_loads {MORE}",
    "wait_for_shrinking",
    f"end_loads {BASE}",
    "undo_faults",
    "remove_run_loads",
    "release_lock",
    "judge",
]


def test_the_surge_is_added_to_a_base_load_that_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = Steps(monkeypatch, tmp_path)
    assert surge_stages.surge(SITE, SERVICE, planned(), RUN).passed
    assert steps.called == ALL
    (seen,) = steps.seen
    assert (seen.surge_at, seen.answered, len(seen.loads)) == (1000.0, {"w3": 5}, 2)


def test_the_head_is_deleted_after_the_surge_begins_and_before_the_growth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = Steps(monkeypatch, tmp_path)
    surge_stages.surge(SITE, SERVICE, planned(fault="head-pod"), RUN)
    at = steps.called.index("inject_in_growth")
    assert (steps.called[at - 1], steps.called[at + 1]) == (f"start_loads {MORE}", "wait_for_growth")
    assert (steps.seen[0].head_deleted_at, steps.seen[0].head_uid) == (1016.0, "old")


def test_a_factor_of_three_starts_two_more_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = Steps(monkeypatch, tmp_path)
    surge_stages.surge(SITE, SERVICE, planned(factor=3), RUN)
    assert f"start_loads {MORE} {BASE}-3" in steps.called


def test_without_growth_the_surge_is_not_held_but_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = Steps(monkeypatch, tmp_path, grows=False)
    surge_stages.surge(SITE, SERVICE, planned(), RUN)
    assert steps.called == [name for name in ALL if name != "hold_surge"]


def test_without_a_steady_state_before_it_there_is_no_surge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = Steps(monkeypatch, tmp_path)
    steps.fail_with("wait_until_at_rest", NotSteady("3 workers instead of 2"))
    surge_stages.surge(SITE, SERVICE, planned(), RUN)
    assert steps.called == [*ALL[:5], f"end_loads {BASE}", "undo_faults", "remove_run_loads", "release_lock", "judge"]
    assert (steps.seen[0].aborted, steps.seen[0].surge_at) == ("3 workers instead of 2", None)


@pytest.mark.parametrize("failing", [name.split()[0] for name in ALL[2:11]])
def test_the_loads_are_removed_and_the_lock_is_released_whatever_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: str
) -> None:
    steps = Steps(monkeypatch, tmp_path, failing)
    with pytest.raises(RuntimeError, match=failing):
        surge_stages.surge(SITE, SERVICE, planned(), RUN)
    assert steps.called[-2:] == ["remove_run_loads", "release_lock"]


def test_the_lock_of_another_run_is_not_released(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = Steps(monkeypatch, tmp_path, "take_lock")
    with pytest.raises(RuntimeError):
        surge_stages.surge(SITE, SERVICE, planned(), RUN)
    assert steps.called == ["take_lock"]


def test_a_run_completes_only_when_its_surge_passed() -> None:
    for verdict in ("passed", "failed", "aborted", "void"):
        state = surge_stages.end_state(Result.model_validate({"verdict": verdict, "headline": "It grew.", "folder": "/evidence/x"}))
        assert (state.is_completed(), state.name == "VerdictFailed") == (verdict == "passed", verdict != "passed")
        assert "/evidence/x/scaling.svg" in (state.message or "")
