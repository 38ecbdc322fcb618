"""A surge: what is refused before anything is changed, and the drill that is made of the parameters."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from blocks.parameters import Inf2Nodes, Infrastructure, Scaling, Service
from blocks.register import TargetData
from drills.definition import Drill, Load, catalogue
from drills.faults import Surge, When
from drills.runner.load_job import duration
from drills.stages.steps import observe_recovery
from flows import checks, drill_stages
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


def planned(service: Service = SERVICE, load: Load | None = None, **changes: Any) -> Drill:
    given: dict[str, Any] = {"factor": 2, "surge_s": 60, "grow_within_s": 600, "shrink_within_s": 900, "fault": "none", **changes}
    return checks.checked_surge(SITE, service, load, **given)


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
    assert planned(service).slos.max_recovery_s == 900
    managed = Site(target="t", infrastructure=Infrastructure(inf2_nodes=Inf2Nodes(count=4, provisioner="managed")))
    assert checks.checked_surge(managed, SERVICE, None, 2, 60, 600, 200, "none"), "no node has to go"


def test_a_refused_surge_changes_nothing_and_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill_stages, "drill", lambda *_, **__: pytest.fail("touched"))
    state = surge.fn("t", INFRASTRUCTURE, Service())
    assert (state.name, state.is_failed()) == ("BadParameters", True)
    assert "no scaling" in (state.message or "")
    assert surge.fn("t", Infrastructure(), SERVICE).name == "BadParameters", "four workers need four nodes"


def test_the_base_load_is_calculated_for_the_service_unless_it_is_given() -> None:
    assert planned().load == Load(short_per_s=2, streams=9)
    mine = Load(short_per_s=1, streams=5)
    assert planned(load=mine).load == mine


def test_nodes_are_judged_only_if_karpenter_launches_them() -> None:
    assert planned().steady_state.most_nodes == 2
    managed = Site(target="t", infrastructure=Infrastructure(inf2_nodes=Inf2Nodes(count=4, provisioner="managed")))
    assert checks.checked_surge(managed, SERVICE, None, 2, 60, 600, 900, "none").steady_state.most_nodes is None


@pytest.mark.parametrize("wrong", [{"factor": 1}, {"factor": 11}, {"surge_s": 0}, {"fault": "worker"}])
def test_parameters_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterTypeError):
        surge.validate_parameters({"target": "t", **wrong})


def test_the_drill_of_a_surge_is_about_the_service_as_it_was_deployed() -> None:
    drill = planned(fault="head-pod")
    assert (drill.surge, drill.load) == (Surge(factor=2, hold_s=60, grow_within_s=600, carried=16), Load(short_per_s=2, streams=9))
    assert [fault.kind for fault in drill.faults] == ["surge", "delete-pod"]
    assert drill.faults[1].when == When(seen="worker-starting", within_s=600)
    steady = drill.steady_state
    assert (steady.min_endpoints, steady.most_workers, steady.min_nodes, steady.most_nodes) == (2, 2, 2, 2)
    assert drill.slos.max_recovery_s == drill.timing.observe_timeout_s == 900
    for name in catalogue():
        if len(Drill.named(name).faults) == 1:
            assert planned(fault=name).faults[1].kind == Drill.named(name).fault.kind


def test_the_load_lasts_longer_than_all_waits_and_so_does_the_task_that_watches() -> None:
    longest = planned(surge_s=1800, grow_within_s=3600, shrink_within_s=3600)
    waits = longest.faults[0].lasts_s + longest.timing.observe_timeout_s
    assert duration(longest) > longest.steady_state.within_s + longest.timing.before_s + waits
    assert observe_recovery.deadline_s > waits
