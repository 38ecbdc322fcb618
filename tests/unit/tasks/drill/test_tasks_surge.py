"""The steps of a surge: samples in the background, loads that are started and stopped, waiting, one fault, and removal."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes_server import Server, serving
from surge_runs import GROWS, HEAD_DIES, PLAN, World, records, sample, seen

from blocks.parameters import Infrastructure, Service
from drills.kubernetes.api import Api
from drills.runner import journal
from drills.runner.faults import NothingToBreak
from drills.runner.journal import Journal, Lock, LockLost
from drills.runner.observer import Observer
from drills.runner.waiting import Pending
from drills.runner.watch import NotSteady
from drills.surge import archive
from drills.surge.judgement import judge
from drills.surge.sample import Sample, read_samples
from tasks import cleanup
from tasks.drill import steps, surge
from tasks.drill.sampling import NoSample, Sampler, sampling_of, take_sample
from tasks.support.progress import Progress
from tasks.support.site import Site

JOBS = "/apis/batch/v1/namespaces/leeward-load/jobs"
LOAD_PODS = "/api/v1/namespaces/leeward-load/pods"
PODS = "/api/v1/namespaces/mistral/pods"
SERVICE = Service()
SITE = Site(target="t", infrastructure=Infrastructure())


class Cluster(Server):
    """A cluster with loads in given states."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, str] = {}

    def handle(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        path = urlsplit(url).path
        if path.startswith(LOAD_PODS) and "/proxy/" in path:
            name = path.removeprefix(f"{LOAD_PODS}/").partition("-pod:")[0]
            self.requests.append((method, path, {}))
            return 200, self._load(name, path.rpartition("/")[2])
        if (method, path) == ("GET", LOAD_PODS):
            wanted = url.rpartition("%3D")[2]
            return 200, {"items": [_pod(wanted)] if f"{JOBS}/{wanted}" in self.objects else []}
        return super().handle(method, url, body)

    def _load(self, name: str, asked: str) -> Any:
        if asked == "records":
            return b""
        if asked == "stop":
            self.states[name] = "done"
        state = self.states.setdefault(name, "running")
        now = time.time()
        return {"now": now, "state": state, "sent": 0, "started": now - 5, "stopped": now if state == "done" else None, "node": "core-2"}


def _pod(load: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{load}-pod", "creationTimestamp": "2026-11-23T12:00:00Z"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Api]]:
    with serving(Cluster()) as (server, api):
        assert isinstance(server, Cluster)
        yield server, api


def sampler(tmp_path: Path, world: World | None, t: float = 0.0) -> Sampler:
    """Return a sampler with one sample, taken now, of that world at that time."""
    found = Sampler(tmp_path / "samples.jsonl")
    if world is not None:
        found.add(now(world, t))
    return found


def now(world: World, t: float) -> Sample:
    return sample(world, t).model_copy(update={"t": time.time()})


def quiet() -> Progress:
    return Progress("p")


def free() -> None:
    """A check that passes: the lock is held."""


def put(server: Server, name: str) -> None:
    server.objects[f"{JOBS}/{name}"] = {"metadata": {"name": name}}


def jobs(server: Server) -> list[str]:
    return [path.rpartition("/")[2] for path in server.objects if path.startswith(JOBS)]


def put_head(server: Server, uid: str) -> None:
    ray_service = {"metadata": {"name": "mistral"}, "status": {"activeServiceStatus": {"rayClusterName": "mistral-1"}}}
    server.objects["/apis/ray.io/v1/namespaces/mistral/rayservices/mistral"] = ray_service
    labels = {"ray.io/cluster": "mistral-1", "ray.io/node-type": "head"}
    server.objects[f"{PODS}/head"] = {
        "metadata": {"name": "head", "uid": uid, "labels": labels, "creationTimestamp": "2026-11-23T12:00:00Z"},
        "spec": {"containers": [{"name": "head"}], "nodeName": "core-1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


# samples


def node(name: str, pool: str, *, ready: bool = True) -> dict[str, Any]:
    labels = {"leeward.dev/pool": pool, "karpenter.sh/nodepool": pool}
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


def test_a_sample_counts_the_inf2_nodes_that_are_ready_and_those_being_launched(pair: tuple[Cluster, Api]) -> None:
    server, api = pair
    for one in (node("n1", "inf2"), node("n2", "inf2", ready=False), node("core", "core")):
        server.objects[f"/api/v1/nodes/{one['metadata']['name']}"] = one
    for one in (node("c1", "inf2"), node("c2", "inf2"), node("c3", "core")):
        server.objects[f"/apis/karpenter.sh/v1/nodeclaims/{one['metadata']['name']}"] = one
    ray_service = {"metadata": {"name": "mistral", "generation": 1}, "status": {"activeServiceStatus": {"rayClusterName": "c"}}}
    server.objects["/apis/ray.io/v1/namespaces/mistral/rayservices/mistral"] = ray_service
    labels = {"ray.io/cluster": "c", "ray.io/node-type": "head"}
    head = {"name": "head", "namespace": "mistral", "uid": "h", "labels": labels, "creationTimestamp": "2026-11-23T12:00:00Z"}
    spec = {"nodeName": "core", "containers": [{"name": "ray-head", "image": "i"}]}
    server.objects[f"{PODS}/head"] = {"metadata": head, "spec": spec, "status": {"phase": "Running"}}
    applications = {"m": {"status": "RUNNING", "deployments": {"engine": {"status": "HEALTHY", "replicas": []}}}}
    where = "/api/v1/namespaces/mistral/services/mistral-head-svc:8265/proxy/api/serve/applications/"
    server.answers["GET", where] = (200, json.dumps({"applications": applications}).encode())
    with Observer(api, SERVICE.subject) as observer:
        found = take_sample(observer)
    assert (found.nodes, found.claims, found.launched) == (("n1",), ("c1", "c2"), 2)
    assert (found.engines, found.head_ready) == (0, False)
    server.answers["GET", where] = (503, b"")
    with Observer(api, SERVICE.subject) as observer:
        assert take_sample(observer).engines is None, "not asked is not none"


def test_samples_are_taken_in_the_background_until_the_end_of_the_block(pair: tuple[Cluster, Api], tmp_path: Path) -> None:
    file = tmp_path / "raw" / "samples.jsonl"
    with sampling_of(pair[1], SERVICE, file, every_s=0.01) as found:
        until = time.monotonic() + 10
        while len(read_samples(file)) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        assert found.now().t == pytest.approx(time.time(), abs=10)
    count = len(read_samples(file))
    assert count >= 3
    time.sleep(0.1)
    assert len(read_samples(file)) == count


def test_a_sample_that_is_too_old_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoSample):
        sampler(tmp_path, None).now()
    old = sampler(tmp_path, None)
    old.add(sample(GROWS, 0).model_copy(update={"t": time.time() - 60}))
    with pytest.raises(NoSample):
        old.now()


# loads


def test_every_load_of_an_attempt_has_a_name_with_the_id_of_the_run() -> None:
    mine = Journal(owner="12345678-aaaa", drill="surge", started=1.0)
    first = "load-12345678-19700101t000001"
    assert mine.load_names(3) == [first, f"{first}-2", f"{first}-3"]
    assert mine.load_names(1) == [mine.load_name]


def test_loads_start_together_and_return_when_the_first_began(pair: tuple[Cluster, Api]) -> None:
    server, api = pair
    labels = {"ray.io/cluster": "mistral-1", "ray.io/node-type": "head"}
    server.objects["/apis/ray.io/v1/namespaces/mistral/rayservices/mistral"] = {
        "status": {"activeServiceStatus": {"rayClusterName": "mistral-1"}}
    }
    server.objects[f"{PODS}/head"] = {
        "metadata": {"name": "head", "creationTimestamp": "2026-11-23T12:00:00Z", "labels": labels},
        "spec": {"containers": [{"image": "slim"}]},
    }
    began = surge.start_and_wait(api, SERVICE, PLAN, ["load-1-2", "load-1-3"], 100, quiet())
    assert sorted(jobs(server)) == ["load-1-2", "load-1-3"]
    assert began == pytest.approx(time.time() - 5, abs=3)
    spec = server.objects[f"{JOBS}/load-1-2"]["spec"]["template"]["spec"]
    assert (spec["containers"][0]["image"], spec["nodeSelector"]) == ("slim", {"leeward.dev/pool": "core"})
    plan = json.loads(server.objects["/api/v1/namespaces/leeward-load/configmaps/load-1-2"]["data"]["plan.json"])
    assert plan["streams"] == PLAN.load.streams
    surge.start_and_wait(api, SERVICE, PLAN, ["load-1-2"], 100, quiet())  # again: the Job is there already


def test_the_base_load_lasts_longer_than_all_waits_and_the_others_longer_than_the_surge() -> None:
    assert (
        surge.longest(PLAN, base=True) > PLAN.steady_s + surge.AT_REST_WITHIN_S + PLAN.grow_within_s + PLAN.surge_s + PLAN.shrink_within_s
    )
    assert surge.longest(PLAN, base=False) > PLAN.grow_within_s + PLAN.surge_s


def test_stopped_loads_have_their_records_read_and_a_missing_one_is_reported(
    pair: tuple[Cluster, Api], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surge, "get_run_logger", lambda: logging.getLogger("test"))
    server, api = pair
    put(server, "load-1")
    here, lost = surge.stop_loads(api, SERVICE, PLAN, ["load-1", "load-9"], tmp_path, lambda _: None)
    assert here.seen is not None
    assert (here.seen.sent, here.records, here.trouble) == (0, 0, "")
    assert (lost.name, lost.seen) == ("load-9", None)
    assert "gone" in lost.trouble


def test_the_answers_of_new_engines_are_read_from_their_metrics_and_may_be_zero(pair: tuple[Cluster, Api]) -> None:
    server, api = pair
    engine = 'ray_leeward_slots{replica="a"} 8.0\n'
    text = (
        f"# HELP ray_leeward_requests_total x\n{engine}"
        'ray_leeward_requests{Component="c",outcome="finished",replica="a"} 9.0\n'
        'ray_leeward_requests_total{Component="c",outcome="finished",replica="a"} 7.0\n'
        'ray_leeward_requests_total{outcome="cancelled",replica="a"} 2.0\n'
        'ray_leeward_requests_total{outcome="finished",replica="b"} 1.2e+02\n'
    )
    server.answers["GET", f"{PODS}/w3:8080/proxy/metrics"] = (200, text.encode())
    server.answers["GET", f"{PODS}/w4:8080/proxy/metrics"] = (200, b"ray_other 1\n")
    server.answers["GET", f"{PODS}/w5:8080/proxy/metrics"] = (503, b"")
    server.answers["GET", f"{PODS}/w6:8080/proxy/metrics"] = (200, engine.encode())
    looks: list[Pending] = []
    assert surge.count_answered(api, SERVICE, ["w3", "w4", "w5", "w6"], looks.append, within_s=0) == {"w3": 127, "w6": 0}
    assert [look.seen for look in looks] == ["no requests yet of w4, w5, w6"]
    assert surge.count_answered(api, SERVICE, ["w3"], looks.append) == {"w3": 127}
    assert len(looks) == 1


# waiting


def test_the_service_must_stay_at_rest_or_is_refused_with_the_reason(tmp_path: Path) -> None:
    at_rest = PLAN.model_copy(update={"steady_s": 0})
    assert surge.wait_at_rest(sampler(tmp_path, GROWS, -1), at_rest, free, quiet()).engines == 2
    with pytest.raises(NotSteady, match="3 workers, 3 of them ready, instead of 2"):
        surge.wait_at_rest(sampler(tmp_path, GROWS, 100), at_rest, free, quiet(), within_s=0)


def test_waiting_for_growth_returns_a_sample_or_ends_at_the_deadline(tmp_path: Path) -> None:
    before = sample(GROWS, -1)
    found = surge.wait_until_grown(sampler(tmp_path, GROWS, 70), before, time.time() + 5, free, quiet())
    assert found is not None
    assert [worker.pod for worker in found.new_workers(before)] == ["w3"]
    assert surge.wait_until_grown(sampler(tmp_path, GROWS, 50), before, time.time(), free, quiet()) is None
    blind = sampler(tmp_path, None)
    blind.add(now(GROWS, 70).model_copy(update={"engines": None}))
    assert surge.wait_until_grown(blind, before, time.time(), free, quiet()) is None, "an endpoint without an engine answers nothing itself"


def test_waiting_for_shrinking_includes_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surge, "HOLD_S", 0.0)
    before = sample(GROWS, -1)
    assert surge.wait_until_shrunk(sampler(tmp_path, GROWS, 340), before, time.time() + 5, free, quiet())
    assert surge.wait_until_shrunk(sampler(tmp_path, GROWS, 300), before, time.time(), free, quiet()) is None
    assert surge.wait_until_shrunk(sampler(tmp_path, GROWS, 100), before, time.time(), free, quiet()) is None


class Clock:
    """A clock that advances only by sleeping."""

    def __init__(self) -> None:
        self.at = 1000.0

    def time(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def test_a_surge_goes_on_until_its_end_and_returns_the_last_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, grown, looks = Clock(), sample(GROWS, 70), sampler(tmp_path, GROWS, 80)
    monkeypatch.setattr(surge, "time", clock)
    assert surge.keep_surging(looks, grown, 1060.0, PLAN, free, quiet()) == looks.now()
    assert clock.at == 1060.0
    assert surge.keep_surging(looks, grown, 1060.0, PLAN, free, quiet()) == grown, "tried again after its time, it ends at once"
    assert surge.keep_surging(sampler(tmp_path, None), grown, 1120.0, PLAN, free, quiet()) == grown, "nothing can be seen"


class Once(Sampler):
    """A sampler with one sample only."""

    def now(self) -> Sample:
        found, self._last = super().now(), None
        return found


def test_a_wait_that_has_succeeded_takes_no_further_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surge, "HOLD_S", 0.0)
    looks, before = Once(tmp_path / "samples.jsonl"), sample(GROWS, -1)
    looks.add(now(GROWS, 70))
    assert surge.wait_for_growth.fn(looks, before, time.time() + 5, free) is not None
    looks.add(now(GROWS, 340))
    assert surge.wait_for_shrinking.fn(looks, before, time.time() + 5, free)


def test_a_lost_lock_ends_the_waiting(tmp_path: Path) -> None:
    def lost() -> None:
        raise LockLost("another run")

    with pytest.raises(LockLost):
        surge.wait_until_grown(sampler(tmp_path, GROWS, 0), sample(GROWS, -1), time.time() + 60, lost, quiet())
    with pytest.raises(LockLost):
        surge.keep_surging(sampler(tmp_path, GROWS, 0), sample(GROWS, 0), time.time() + 60, PLAN, lost, quiet())


# the fault


def test_the_fault_is_done_once_while_a_worker_is_starting(pair: tuple[Cluster, Api], tmp_path: Path) -> None:
    server, api = pair
    put_head(server, "old")
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="surge", started=1.0))
    plan, before = PLAN.model_copy(update={"fault": "head-pod-forced"}), sample(GROWS, -1)
    looks = sampler(tmp_path, GROWS, 20)
    done = surge.inject(api, SERVICE, looks, plan, before, time.time() + 5, free, quiet())
    assert done
    assert ([s.target.uid for s in done.strikes], done.done) == (["old"], True)
    (body,) = [body for (method, _, _), body in zip(server.requests, server.bodies, strict=False) if method == "DELETE"]
    assert (body["preconditions"], body["gracePeriodSeconds"]) == ({"uid": "old"}, 0)
    put_head(server, "new")
    assert surge.inject(api, SERVICE, looks, plan, before, time.time() + 5, free, quiet()) == done
    assert f"{PODS}/head" in server.objects, "a second call leaves the new head alone"


def test_no_fault_is_done_by_a_surge_that_lost_its_lock_meanwhile(pair: tuple[Cluster, Api], tmp_path: Path) -> None:
    server, api = pair
    put_head(server, "old")
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="surge", started=1.0))
    assert Lock(api, SERVICE.subject, "another-run").take() is True
    plan, before = PLAN.model_copy(update={"fault": "head-pod"}), sample(GROWS, -1)
    with pytest.raises(LockLost):
        surge.inject(api, SERVICE, sampler(tmp_path, GROWS, 20), plan, before, time.time() + 5, free, quiet())
    assert f"{PODS}/head" in server.objects


def test_no_fault_is_done_while_no_worker_is_starting(pair: tuple[Cluster, Api], tmp_path: Path) -> None:
    server, api = pair
    put_head(server, "old")
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="surge", started=1.0))
    plan, before = PLAN.model_copy(update={"fault": "head-pod"}), sample(GROWS, -1)
    for t in (5.0, 70.0):  # none is starting; it answers already
        assert surge.inject(api, SERVICE, sampler(tmp_path, GROWS, t), plan, before, time.time(), free, quiet()) is None
    assert f"{PODS}/head" in server.objects
    del server.objects[f"{PODS}/head"]
    with pytest.raises(NothingToBreak):
        surge.inject(api, SERVICE, sampler(tmp_path, GROWS, 20), plan, before, time.time() + 5, free, quiet())


# removal


MINE, OTHERS = "12345678-aaaa", "99999999-bbbb"


@pytest.fixture
def swept(pair: tuple[Cluster, Api], monkeypatch: pytest.MonkeyPatch) -> tuple[Cluster, Api]:
    """A cluster with the loads of two runs, which is the site of all tasks."""
    server, api = pair
    monkeypatch.setattr(Site, "api", lambda self: api)
    monkeypatch.setattr(Site, "block", SimpleNamespace(provisioned=True))
    for module in (cleanup, steps):
        monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("test"))
    for name in ("load-12345678-1", "load-12345678-1-2", "load-12345678-2-3", "load-99999999-1"):
        put(server, name)
    return server, api


def test_a_sweep_removes_all_loads_of_its_run_and_no_other(swept: tuple[Cluster, Api]) -> None:
    server, api = swept
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="surge", started=1.0))
    Lock(api, SERVICE.subject, MINE).take()
    done = cleanup.sweep_drill.fn(SITE, SERVICE, MINE)
    assert done[:3] == [f"load {name} removed" for name in ("load-12345678-1", "load-12345678-1-2", "load-12345678-2-3")]
    assert done[3:] == ["journal closed", "lock released"]
    assert jobs(server) == ["load-99999999-1"]


def test_a_sweep_removes_loads_that_outlived_their_closed_journal(swept: tuple[Cluster, Api]) -> None:
    server, api = swept
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="surge", started=1.0, state="closed"))
    assert len(cleanup.sweep_drill.fn(SITE, SERVICE, MINE)) == 3
    assert jobs(server) == ["load-99999999-1"]


def test_a_sweep_without_an_owner_removes_the_loads_of_dead_runs_only(swept: tuple[Cluster, Api]) -> None:
    server, api = swept
    journal.write(api, SERVICE.subject, Journal(owner=OTHERS, drill="surge", started=1.0))
    Lock(api, SERVICE.subject, OTHERS).take()
    assert cleanup.sweep_drill.fn(SITE, SERVICE, "") == []
    Lock(api, SERVICE.subject, OTHERS).release()
    assert cleanup.sweep_drill.fn(SITE, SERVICE, "") == ["load load-99999999-1 removed", "journal closed"]
    assert len(jobs(server)) == 3


def test_a_retried_surge_begins_another_attempt_without_its_former_loads(
    swept: tuple[Cluster, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, api = swept
    monkeypatch.setattr(Api, "apply_all", lambda self, things: [])
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="surge", started=1.0))
    again = steps.take_lock.fn(SITE, SERVICE, MINE, "surge", 9.0, go_on=False)
    assert again.started == 9.0
    assert jobs(server) == ["load-99999999-1"]
    assert steps.take_lock.fn(SITE, SERVICE, MINE, "surge", 10.0) == again, "a drill goes on where it was"


def test_a_load_left_by_an_ended_attempt_is_removed_by_the_next_one(swept: tuple[Cluster, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    server, api = swept
    monkeypatch.setattr(Api, "apply_all", lambda self, things: [])
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="head-pod", started=1.0, state="closed"))
    steps.take_lock.fn(SITE, SERVICE, MINE, "head-pod", 9.0)
    assert jobs(server) == ["load-99999999-1"]


# texts


def test_the_markdown_of_a_verdict_has_the_path_of_the_picture_and_a_table_of_phases() -> None:
    judgement = judge(PLAN, seen(GROWS), records(GROWS))
    text = surge.to_markdown(judgement, Path("/evidence/run") / archive.PICTURE)
    assert text.startswith("# passed\n\n2 times the load")
    assert "| `w3` | n3 (new) | 60 s | 123 |" in text
    assert "`/evidence/run/scaling.svg`" in text
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][-4:] == [
        "| before",
        "| growing",
        "| grown",
        "| after",
    ]


def test_progress_shows_the_counts_of_a_sample() -> None:
    assert "3 workers answer, 3 there; 3 engines; 3 of 3 nodes Ready" in surge._describe(sample(GROWS, 70))
    assert "? engines" in surge._describe(sample(HEAD_DIES, 20))
