"""A surge from its first request to its report, on a cluster in memory: the order of its steps, also when the runner dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drilled_cluster import JOBS, TRAFFIC, Bench, Cluster, Killed, bench

from drills.definition import Drill, Series
from drills.evidence import Evidence
from drills.faults import Surge
from drills.runner import watch
from drills.stages.drill import Broken
from drills.stages.run import Result
from drills.surge import surge_drill

SURGE = Surge(factor=2, hold_s=20, grow_within_s=60, carried=9)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Bench]:
    with bench(Cluster(grows=True), tmp_path) as found:
        yield found


def plan(fault: str = "none") -> Drill:
    return surge_drill(SURGE, TRAFFIC, workers=2, nodes=2, nodes_follow=True, shrink_within_s=90, fault=fault)


def surge(bench: Bench, fault: str = "none", lives: int | None = None) -> Result:
    return bench.drill(Series(), lives, plan(fault))


def evidence(bench: Bench) -> Evidence:
    return Evidence.load(bench.folder / "evidence.json")


def test_the_load_is_doubled_until_the_service_has_grown_and_is_watched_until_it_is_as_before(here: Bench) -> None:
    result = surge(here)
    assert result.passed, evidence(here).why
    found, cluster = evidence(here), here.cluster
    assert {path.name for path in here.folder.iterdir()} == {"evidence.json", "records.jsonl", "report.html", "junit.xml", "raw"}
    (strike,) = found.strikes
    assert strike.answered == {"w3": 7}
    assert cluster.surged is not None
    assert cluster.over is not None
    assert 25 + SURGE.hold_s <= cluster.over - cluster.surged <= 25 + SURGE.hold_s + 10
    assert found.recovery_s is not None
    assert found.recovery_s >= 50, "the node goes last"
    assert len([path for method, path, _ in cluster.requests if method == "POST" and path.endswith("/jobs")]) == 1
    assert cluster.load is None, "no load is left"


def test_the_fault_is_done_once_while_a_worker_starts(here: Bench) -> None:
    result = surge(here, "head-pod-forced")
    assert result.passed, evidence(here).why
    (deletion,) = here.cluster.deletions
    assert here.cluster.surged is not None
    assert deletion.forced
    assert 10 <= deletion.at - here.cluster.surged < 25


@pytest.mark.parametrize("fault", ["none", "head-pod-forced"])
def test_a_surge_whose_runner_was_killed_goes_on_where_it_was(tmp_path: Path, fault: str) -> None:
    """It is killed ever later, at moments from its start to its verdict."""
    for number, lives in enumerate((20, 150, 300, 400, 500, 700, 900, 1100)):
        with bench(Cluster(grows=True), tmp_path / str(number)) as here:
            try:
                surge(here, fault, lives)
            except Killed:
                assert surge(here, fault).passed, (lives, evidence(here).why)
            assert len(here.cluster.deletions) == (fault != "none"), lives
            jobs = [path for method, path, _ in here.cluster.requests if method == "POST" and path == JOBS]
            assert len(jobs) == 1, lives
            assert here.cluster.over is not None


def test_a_service_that_does_not_grow_gets_its_load_back_in_time_and_fails(tmp_path: Path) -> None:
    with bench(Cluster(), tmp_path) as here:
        assert surge(here, "head-pod").verdict == "failed"
        assert not here.cluster.deletions, "no worker was starting"
        assert here.cluster.surged is not None
        assert here.cluster.over is not None
        assert SURGE.grow_within_s <= here.cluster.over - here.cluster.surged <= SURGE.grow_within_s + 10
        assert "were under way on average" in evidence(here).why[0]


def test_a_worker_that_stays_fails_the_surge(here: Bench) -> None:
    here.cluster.shrinks = False
    assert surge(here).verdict == "failed"
    assert any("3 workers instead of 2" in reason for reason in evidence(here).why)


def test_a_service_that_is_not_at_rest_has_no_surge(here: Bench) -> None:
    here.cluster.shrinks, here.cluster.surged, here.cluster.over = False, 0.0, 1.0
    result = surge(here)
    assert result.verdict == "aborted"
    assert "3 workers instead of 2; 3 nodes instead of 2" in result.headline
    assert evidence(here).strikes == ()


def test_a_request_that_is_lost_in_the_surge_fails_it(here: Bench) -> None:
    lost: list[float] = []

    def fails(end: float) -> bool:
        surged = here.cluster.surged
        if lost or surged is None or end < surged + 5:
            return False
        lost.append(end)
        return True

    here.cluster.lost = fails
    assert surge(here).verdict == "failed"
    assert len(lost) == 1


@pytest.mark.parametrize("grows", [True, False])
def test_a_load_that_dies_in_the_surge_leaves_it_without_a_verdict(tmp_path: Path, grows: bool) -> None:
    cluster = Cluster(grows=grows)

    def dies() -> bool:
        if cluster.surged is None or cluster.clock.now < cluster.surged + 5:
            return False
        cluster.over = cluster.over or cluster.clock.now
        return True

    cluster.load_dies = dies
    with bench(cluster, tmp_path) as here:
        assert surge(here).verdict == "void"
        assert "so the records may be incomplete" in " ".join(evidence(here).why)


@pytest.mark.parametrize("fault", ["none", "head-pod-forced"])
def test_an_api_server_that_is_away_after_the_surge_repeats_neither_its_end_nor_the_fault(here: Bench, fault: str) -> None:
    cluster, answer = here.cluster, here.cluster.handle

    def handle(method: str, path: str, body: Any) -> tuple[int, Any]:
        if cluster.over is not None and cluster.over + 3 < cluster.clock.now < cluster.over + 8:
            cluster.clock.sleep(1)
            return 503, {"message": "away"}
        return answer(method, path, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "handle", handle)
        patch.setattr(watch, "API_AWAY_S", 0.0)  # so that the stage is tried again at once
        assert surge(here, fault).passed, evidence(here).why
    found = evidence(here)
    assert len(found.strikes) == len(here.cluster.deletions) + 1 == (1 if fault == "none" else 2)
    assert cluster.over is not None
    assert found.strikes[0].healed_at < cluster.over + 3


def test_an_end_of_the_surge_that_the_api_server_does_not_take_is_tried_again(here: Bench) -> None:
    cluster, answer, refused = here.cluster, here.cluster.handle, [403, 503]

    def handle(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "PATCH" and cluster.over is not None and refused:
            return refused.pop(), {"message": "away"}
        return answer(method, path, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "handle", handle)
        assert surge(here).passed, evidence(here).why
    assert not refused


class OneStarts(Cluster):
    """One more worker is starting when the surge ends: its engine is there, and gets no requests yet."""

    @property
    def workers(self) -> dict[str, bool]:
        """The workers, and whether they are ready."""
        return {**super().workers, **({"w4": False} if self.came(30, 30) else {})}

    def _moving(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any] | None:
        if path.endswith("/w4:8080/proxy/metrics"):
            return 200, b"ray_leeward_slots{} 8.0\n"
        return super()._moving(method, path, query, body)


def test_a_worker_that_still_starts_when_the_surge_ends_need_not_have_answered(tmp_path: Path) -> None:
    with bench(OneStarts(grows=True), tmp_path) as here:
        assert surge(here).passed, evidence(here).why
        assert evidence(here).strikes[0].answered == {"w3": 7}


def test_a_surge_that_an_error_cuts_short_is_not_said_to_be_over(here: Bench) -> None:
    cluster, answer = here.cluster, here.cluster.handle

    def handle(method: str, path: str, body: Any) -> tuple[int, Any]:
        if (
            cluster.surged is not None
            and cluster.clock.now > cluster.surged + 5
            and path.endswith("/pods?labelSelector=ray.io%2Fnode-type")
        ):
            return 403, {"message": "no longer allowed"}
        return answer(method, path, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "handle", handle)
        patch.setattr(watch, "API_AWAY_S", 0.0)
        with pytest.raises(Broken):
            surge(here)
    found = evidence(here)
    assert "surge over" not in [event.what for event in found.events]
    assert {slo.actual for slo in found.slos if slo.id == "recovery"} == {"not within 0 s"}
