"""When the steady state has held for long enough, and when the observation of a recovery is over; by snapshots, without a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drills.definition import Drill, Timing
from drills.kubernetes.api import Refused, Unavailable
from drills.observed import Answer, DeploymentSeen, HeadSeen, ReplicaSeen, Snapshot, WorkerSeen
from drills.runner.raw_evidence import RawEvidence
from drills.runner.recovery import Recovery, Steadiness
from drills.runner.watch import snapshots_every
from drills.strikes import Strike, Target

DRILL = Drill.named("head-pod", timing=Timing(before_s=10, after_s=10, observe_timeout_s=60))


STRUCK = Strike(target=Target(name="head-old", uid="old"), at=100.0, done=True)


def well(t: float, head: str = "old", **other: Any) -> Snapshot:
    return Snapshot(
        t=t,
        **{
            "conditions": {"Ready": True},
            "app_status": "RUNNING",
            "deployments": (DeploymentSeen(name="m", status="HEALTHY"),),
            "replicas": tuple(ReplicaSeen(actor_id=f"a{n}", deployment="m", pod=f"w{n}", node=f"n{n}") for n in (1, 2)),
            "head": HeadSeen(pod=f"head-{head}", uid=head, running=True, ready=True),
            "workers": tuple(WorkerSeen(pod=f"w{n}", uid=f"u{n}", ready=True) for n in (1, 2)),
            "endpoints": ("w1", "w2"),
            "gcs_storage": True,
            "answer": Answer(ok=True),
            **other,
        },
    )


def blind(t: float, head: str = "old") -> Snapshot:
    return well(t, head, app_status=None, deployments=None, replicas=None)


def steady(*snapshots: Snapshot) -> list[bool]:
    steadiness = Steadiness(DRILL)
    return [steadiness.see(snapshot) for snapshot in snapshots]


def test_the_steady_state_must_hold_for_the_whole_time() -> None:
    assert steady(well(0), well(5), well(9.9), well(10)) == [False, False, False, True]


def test_an_interruption_restarts_the_steady_time() -> None:
    broken = well(5, endpoints=("w1",))
    assert steady(well(0), broken, well(6), well(11), well(16)) == [False, False, False, False, True]


def test_a_snapshot_without_an_answer_of_ray_neither_interrupts_nor_completes_the_steady_time() -> None:
    assert steady(well(0), blind(5), blind(10), well(11)) == [False, False, False, True]


def test_a_time_without_snapshots_is_not_steady() -> None:
    assert steady(well(0), well(50), well(59), well(60)) == [False, False, False, True]


def test_a_service_without_a_complete_snapshot_is_not_steady() -> None:
    assert steady(*(blind(t) for t in range(20))) == [False] * 20


def test_the_progress_says_why_it_is_not_steady() -> None:
    steadiness = Steadiness(DRILL)
    steadiness.see(well(0, endpoints=("w1",)))
    assert "1 endpoints ready" in steadiness.progress(0).seen
    steadiness.see(well(1))
    steadiness.see(well(6))
    assert steadiness.progress(6).seen == "steady for 5 of 10 s under load"


def recovering(*snapshots: Snapshot) -> Recovery:
    recovery = Recovery(DRILL, well(99), (STRUCK,))
    for snapshot in snapshots:
        recovery.see(snapshot)
    return recovery


def test_a_service_has_not_recovered_while_the_old_head_is_there() -> None:
    recovery = recovering(*(well(100 + n) for n in range(1, 30)))
    assert recovery.recovered is None
    assert not recovery.over


def test_an_observation_is_over_some_time_after_recovery() -> None:
    looks = [well(101, head="new"), well(107, head="new")]
    recovery = recovering(*looks)
    assert recovery.recovered == 101
    assert not recovery.over
    assert "observed for 4 s more" in recovery.progress().seen
    recovery.see(well(111, head="new"))
    assert recovery.over


def test_the_observation_of_a_service_that_does_not_recover_ends_at_the_timeout() -> None:
    recovery = recovering(blind(130), blind(160))
    assert not recovery.over
    recovery.see(blind(160.1))
    assert recovery.over
    assert recovery.recovered is None


def test_a_service_that_is_steady_at_the_timeout_is_observed_until_it_counts_as_recovered() -> None:
    """Return a recovery after the runner died and was resumed at that time."""
    recovery = recovering(well(165, head="new"))
    assert not recovery.over
    recovery.see(well(171, head="new"))
    assert recovery.recovered == 165
    given_up = recovering(well(165, head="new"), blind(171, head="new"))
    assert given_up.over


def test_a_relapse_revokes_the_recovery() -> None:
    recovery = recovering(well(101, head="new"), well(107, head="new"), well(108, head="new", endpoints=("w1",)))
    assert recovery.recovered is None
    assert "endpoints" in recovery.progress().seen


def test_each_change_is_reported_once() -> None:
    recovery = Recovery(DRILL, well(99), (STRUCK,))
    told = [recovery.see(snapshot) for snapshot in (well(101, head="new"), well(107, head="new"), well(108, head="new"))]
    assert any("recovered" in news for news in told[1])
    assert told[2] == []


def test_the_snapshots_of_a_runner_that_died_count() -> None:
    recovery = Recovery(DRILL, well(99), (STRUCK,), [well(101, head="new")])
    recovery.see(well(107, head="new"))
    assert recovery.recovered == 101


class Eyes:
    """An observer that returns these snapshots or raises these errors, one after the other."""

    def __init__(self, *seen: Snapshot | Exception) -> None:
        self._seen = list(seen)

    def take_snapshot(self) -> Snapshot:
        found = self._seen.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.mark.parametrize("error", [Unavailable("away"), Refused("forbidden: RBAC is not ready", 403)])
def test_a_restart_of_the_api_server_is_tolerated_and_a_long_outage_is_not(tmp_path: Path, error: Exception) -> None:
    eyes: Any = Eyes(well(1), error, well(3), error)
    seen = snapshots_every(eyes, RawEvidence(tmp_path), 0, clock=iter(range(0, 1000, 20)).__next__)
    assert [next(seen).t, next(seen).t] == [1, 3]
    eyes._seen = [error] * 10
    with pytest.raises(type(error)):
        next(seen)
    assert [s.t for s in RawEvidence(tmp_path).snapshots()] == [1, 3]
