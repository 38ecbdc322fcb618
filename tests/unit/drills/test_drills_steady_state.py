"""The steady state: every reason why it does not hold is reported, and recovery counts from the moment from which it holds to the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drill_runs import DEPLOYMENTS, LOSES, STRIKE, SURVIVES, T0, WORKERS, World, observation, records, snapshot

from drills.definition import Drill, Load, SteadyState
from drills.judge.steady_state import not_recovered, not_redundant, not_steady, recovered_at, traffic_not_steady
from drills.observed import ActorSeen, Answer, Snapshot

HEALTHY = snapshot(SURVIVES, -1)
APIS, ENGINES = (tuple(r for r in HEALTHY.replicas or () if r.deployment == name) for name in ("api", "engine"))
DRILL = Drill.named("head-pod-forced")


def with_(**changes: object) -> Snapshot:
    return HEALTHY.model_copy(update=changes)


def later(world: World) -> list[Snapshot]:
    return [s for s in observation(world).snapshots if s.t > T0]


def test_a_healthy_service_is_in_its_steady_state() -> None:
    assert not_steady(HEALTHY) == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (with_(conditions={"Ready": False}), "RayService is not Ready"),
        (with_(conditions={}), "RayService is not Ready"),
        (with_(app_status="DEPLOYING"), "application is DEPLOYING"),
        (with_(replicas=None), "could not be asked"),
        (with_(replicas=ENGINES[:1] + APIS), "1 replicas of engine running, at least 2"),
        (with_(replicas=ENGINES + APIS[:1]), "1 replicas of api running, at least 2"),
        (with_(replicas=APIS), "0 replicas of engine running, at least 2"),
        (with_(replicas=(), deployments=()), "0 replicas running, at least 2"),
        (with_(endpoints=HEALTHY.endpoints[:1]), "1 endpoints ready, at least 2"),
        (with_(head=None), "no head pod"),
        (with_(head=HEALTHY.head.model_copy(update={"ready": False}) if HEALTHY.head else None), "head pod mistral-head-old is not ready"),
        (with_(workers=()), "no worker"),
        (with_(workers=tuple(w.model_copy(update={"ready": False}) for w in HEALTHY.workers)), "worker mistral-worker-5xk2p is not ready"),
        (with_(answer=Answer(ok=False, detail="503")), "not answered: 503"),
        (with_(answer=None), "no request was tried"),
    ],
)
def test_the_steady_state_does_not_hold_when(broken: Snapshot, reason: str) -> None:
    assert any(reason in told for told in not_steady(broken)), not_steady(broken)


LENIENT = SteadyState(strict=False, answered=False, min_replicas=0, min_nodes=0, min_endpoints=1)


def test_a_service_of_others_may_have_workers_without_replicas_and_deployments_that_scale_and_no_probe() -> None:
    workers = (HEALTHY.workers[0], HEALTHY.workers[1].model_copy(update={"ready": False}))
    deployments = tuple(d.model_copy(update={"status": "UPSCALING"}) for d in HEALTHY.deployments or ())
    seen = with_(workers=workers, deployments=deployments, answer=None)
    assert not_steady(seen, LENIENT) == []
    assert len(not_steady(seen)) >= 3
    assert not_redundant(HEALTHY, seen) == ["1 workers ready, 2 before the fault"], "it must be as before the fault all the same"


def test_a_service_of_others_is_not_steady_without_a_ready_endpoint_or_with_an_unhealthy_deployment() -> None:
    assert not_steady(with_(endpoints=()), LENIENT) == ["0 endpoints ready, at least 1 are needed"]
    ill = tuple(d.model_copy(update={"status": "UNHEALTHY"}) for d in HEALTHY.deployments or ())
    assert not_steady(with_(deployments=ill), LENIENT) == [f"deployment {d.name} is UNHEALTHY" for d in ill]


def test_recovery_without_a_probe_is_seen_by_ray_and_kubernetes_alone() -> None:
    drill = DRILL.model_copy(update={"steady_state": LENIENT})
    quiet = [s.model_copy(update={"answer": None}) for s in later(SURVIVES)]
    assert recovered_at(HEALTHY, quiet, drill, (STRIKE,)) == recovered_at(HEALTHY, later(SURVIVES), DRILL, (STRIKE,)) is not None
    assert recovered_at(HEALTHY, quiet, DRILL, (STRIKE,)) is None


@pytest.mark.parametrize(("pod", "reasons"), [(WORKERS[0], ["1 proxies of workers healthy, 2 before the fault"]), ("mistral-head-old", [])])
def test_an_unhealthy_proxy_of_a_worker_is_not_redundant_and_that_of_the_head_does_not_count(pod: str, reasons: list[str]) -> None:
    proxies = tuple(ActorSeen(actor_id=f"p-{name}", status="HEALTHY", pod=name) for name in (*WORKERS, "mistral-head-old"))
    ill = tuple(p.model_copy(update={"status": "UNHEALTHY"}) if p.pod == pod else p for p in proxies)
    assert not_redundant(with_(proxies=proxies), with_(proxies=ill)) == reasons
    assert not_redundant(HEALTHY, with_(proxies=ill)) == [], "what was not known before is not missing now"


def test_replicas_packed_on_one_node_are_not_redundant() -> None:
    assert HEALTHY.replicas
    packed = with_(replicas=tuple(r.model_copy(update={"node": "inf2-1"}) for r in HEALTHY.replicas))
    assert not_steady(packed) == [f"1 nodes with a replica of {name}, at least 2 are needed" for name in DEPLOYMENTS]
    assert not_steady(packed, SteadyState(min_nodes=1)) == []


def test_one_deployment_packed_on_one_node_is_not_redundant_whatever_the_other_is() -> None:
    packed = with_(replicas=tuple(r.model_copy(update={"node": "inf2-1"}) for r in ENGINES) + APIS)
    assert not_steady(packed) == ["1 nodes with a replica of engine, at least 2 are needed"]
    assert not_redundant(HEALTHY, packed) == ["1 nodes with a replica of engine, 2 before the fault"]


def test_a_deployment_that_ray_no_longer_lists_is_missing() -> None:
    alone = with_(replicas=APIS, deployments=tuple(d for d in HEALTHY.deployments or () if d.name == "api"))
    assert "0 replicas of engine running, 2 before the fault" in not_redundant(HEALTHY, alone)


def test_gcs_storage_is_required_only_when_asked_for() -> None:
    off = with_(gcs_storage=False)
    assert not_steady(off) == []
    assert "GCS fault tolerance is off" in not_steady(off, SteadyState(require_gcs_storage=True))[0]


def test_traffic_is_steady_when_every_request_is_answered_on_time() -> None:
    calm = [r for r in records(SURVIVES) if r.end < T0]
    assert traffic_not_steady(calm, Load()) == []


def test_traffic_is_not_steady_without_answers_with_failures_or_when_late() -> None:
    calm = [r for r in records(SURVIVES) if r.end < T0]
    assert len(traffic_not_steady([], Load())) == 2
    assert "1 of" in traffic_not_steady([replace(calm[0], outcome="refused"), *calm[1:]], Load())[0]
    assert "sent more than 1 s late" in traffic_not_steady([replace(r, sent=r.due + 2) for r in calm], Load())[0]
    assert traffic_not_steady([r for r in calm if r.kind == "short"], Load(streams=0)) == []


def test_a_service_with_the_same_head_as_before_has_not_recovered() -> None:
    assert "same UID" in not_recovered(HEALTHY, HEALTHY, DRILL, (STRIKE,))[0]


def test_recovery_counts_from_when_the_new_head_is_ready() -> None:
    assert recovered_at(HEALTHY, later(SURVIVES), DRILL, (STRIKE,)) == pytest.approx(T0 + 17.3)


def test_recovery_waits_for_redundancy() -> None:
    assert recovered_at(HEALTHY, later(LOSES), DRILL, (STRIKE,)) == pytest.approx(T0 + 40.3)


def test_a_service_has_not_recovered_before_the_steady_state_has_held_for_long_enough() -> None:
    early = [s for s in later(SURVIVES) if s.t < T0 + 20]
    assert recovered_at(HEALTHY, early, DRILL, (STRIKE,)) is None


def test_a_service_that_breaks_again_has_not_recovered() -> None:
    seen = later(SURVIVES)
    broken = [*seen[:-1], seen[-1].model_copy(update={"endpoints": seen[-1].endpoints[:1]})]
    assert recovered_at(HEALTHY, broken, DRILL, (STRIKE,)) is None


def test_a_moment_at_which_ray_could_not_be_asked_neither_ends_nor_begins_recovery() -> None:
    seen = later(SURVIVES)
    blink = [s.model_copy(update={"replicas": None}) if s.t > T0 + 30 and int(s.t) % 7 == 0 else s for s in seen]
    assert recovered_at(HEALTHY, blink, DRILL, (STRIKE,)) == pytest.approx(T0 + 17.3)
    blind = [s.model_copy(update={"replicas": None, "app_status": None}) for s in seen]
    assert recovered_at(HEALTHY, blind, DRILL, (STRIKE,)) is None
