"""A fault is done once: to one UID, and written into the journal before, where a resumed run finds it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from drill_runs import deleted
from kubernetes_server import Server, serving

from blocks.parameters import Service
from drills.definition import Drill
from drills.faults import DeletePod, Fault
from drills.kubernetes.api import Api
from drills.runner import faults, journal
from drills.runner.acts.act import NothingToBreak
from drills.runner.faults import UnknownFault
from drills.runner.journal import FaultNote, Journal, Lock, LockLost

PODS = "/api/v1/namespaces/mistral/pods"
SERVICE = Service()
FORCED = (DeletePod(grace="forced"),)


def put_head(server: Server, name: str, uid: str, **metadata: str) -> None:
    labels = {"ray.io/cluster": "mistral-1", "ray.io/node-type": "head"}
    server.objects[f"{PODS}/{name}"] = {
        "metadata": {"name": name, "uid": uid, "labels": labels, "creationTimestamp": "2026-11-23T12:00:00Z", **metadata},
        "spec": {"containers": [{"name": "head"}], "nodeName": "core-1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


@pytest.fixture
def pair() -> Iterator[tuple[Server, Api]]:
    with serving() as (server, api):
        ray_service = {"metadata": {"name": "mistral"}, "status": {"activeServiceStatus": {"rayClusterName": "mistral-1"}}}
        server.objects["/apis/ray.io/v1/namespaces/mistral/rayservices/mistral"] = ray_service
        put_head(server, "head-old", "uid-old")
        yield server, api


def begun(api: Api, *faults: FaultNote) -> Journal:
    return journal.write(api, SERVICE.subject, Journal(owner="run", drill="head-pod", started=1.0, faults=faults))


def deletions(server: Server) -> int:
    return sum(method == "DELETE" for method, _, _ in server.requests)


def test_the_head_is_deleted_by_its_uid_and_the_journal_has_the_fault(pair: tuple[Server, Api]) -> None:
    server, api = pair
    done = faults.inject(api, SERVICE.subject, FORCED, begun(api))
    assert done.fault
    assert done.fault == deleted("head-old", "uid-old", done.fault.at, node="core-1")
    deletion = next(body for (method, _, _), body in zip(server.requests, server.bodies, strict=True) if method == "DELETE")
    assert deletion["preconditions"] == {"uid": "uid-old"}
    assert deletion["gracePeriodSeconds"] == 0
    assert journal.read(api, SERVICE.subject) == done


def test_the_default_grace_is_the_pods_own(pair: tuple[Server, Api]) -> None:
    server, api = pair
    faults.inject(api, SERVICE.subject, (DeletePod(),), begun(api))
    deletion = next(body for (method, _, _), body in zip(server.requests, server.bodies, strict=True) if method == "DELETE")
    assert "gracePeriodSeconds" not in deletion


def test_a_fault_that_was_done_is_not_done_again(pair: tuple[Server, Api]) -> None:
    server, api = pair
    done = faults.inject(api, SERVICE.subject, FORCED, begun(api))
    put_head(server, "head-new", "uid-new")
    assert faults.inject(api, SERVICE.subject, FORCED, done) == done
    assert deletions(server) == 1


def test_a_retry_after_a_crash_before_the_deletion_deletes_the_planned_pod(pair: tuple[Server, Api]) -> None:
    server, api = pair
    done = faults.inject(api, SERVICE.subject, FORCED, begun(api, deleted("head-old", "uid-old", 5.0, done=False)))
    assert done.fault
    assert done.fault.done
    assert done.fault.at > 5.0
    assert f"{PODS}/head-old" not in server.objects


@pytest.mark.parametrize("now_there", [None, "uid-new"])
def test_a_retry_after_a_crash_after_the_deletion_keeps_its_time_and_does_not_delete_the_new_head(
    pair: tuple[Server, Api], now_there: str | None
) -> None:
    server, api = pair
    del server.objects[f"{PODS}/head-old"]
    if now_there:
        put_head(server, "head-old", now_there)
    done = faults.inject(api, SERVICE.subject, FORCED, begun(api, deleted("head-old", "uid-old", 5.0, done=False)))
    assert done.fault == deleted("head-old", "uid-old", 5.0)
    assert deletions(server) == 0


def test_without_a_running_head_no_fault_is_done(pair: tuple[Server, Api]) -> None:
    server, api = pair
    put_head(server, "head-old", "uid-old", deletionTimestamp="2026-11-23T12:00:01Z")
    with pytest.raises(NothingToBreak):
        faults.inject(api, SERVICE.subject, FORCED, begun(api))
    assert deletions(server) == 0


def test_an_unknown_kind_of_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownFault, match="delete-pod"):
        faults.check_known((DeletePod(), Fault(kind="flood")))


def test_a_run_that_lost_the_lock_does_no_fault(pair: tuple[Server, Api]) -> None:
    server, api = pair
    subject, drill = SERVICE.subject, Drill.named("head-pod")
    begun(api)
    Lock(api, subject, "other").take()
    with pytest.raises(LockLost):
        faults.inject_once(api, subject, drill, "run")
    assert deletions(server) == 0
    Lock(api, subject, "other").release()
    assert faults.inject_once(api, subject, drill, "run").fault
    assert deletions(server) == 1
