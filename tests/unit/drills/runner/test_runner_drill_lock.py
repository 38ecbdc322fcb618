"""One drill at a time: the lease is taken, renewed and released, and taken over when its holder died."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from drill_runs import deleted
from kubernetes_server import Server

from blocks.parameters import Service
from drills.kubernetes import leases
from drills.kubernetes.api import Api, Object
from drills.runner import journal
from drills.runner.journal import InUse, Journal, Lock, LockLost, renewing
from drills.runner.waiting import Pending, Until
from tasks.drill import steps

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PATH = "/apis/coordination.k8s.io/v1/namespaces/leeward-load/leases/drill-mistral.mistral"


def claim(lease: Object | None, owner: str, after_s: float = 0) -> Object | leases.HeldBy:
    return leases.claim(lease, owner, NOW + timedelta(seconds=after_s), name="l", namespace="n")


def held(owner: str = "a") -> Object:
    found = claim(None, owner)
    assert isinstance(found, dict)
    return found


def test_a_missing_lease_is_created_and_taken() -> None:
    assert held()["spec"]["holderIdentity"] == "a"
    assert leases.holder(held(), NOW) == "a"


def test_another_run_learns_which_run_holds_the_lease_and_for_how_long() -> None:
    assert claim(held(), "b", after_s=20) == leases.HeldBy("a", 40.0)


def test_a_renewed_lease_keeps_the_time_when_it_was_acquired() -> None:
    renewed = claim(held(), "a", after_s=30)
    assert isinstance(renewed, dict)
    assert renewed["spec"]["acquireTime"] == held()["spec"]["acquireTime"]
    assert isinstance(claim(renewed, "b", after_s=80), leases.HeldBy)


def test_a_lease_whose_holder_died_is_taken_over_and_counted() -> None:
    assert leases.holder(held(), NOW + timedelta(seconds=60)) == ""
    taken = claim(held(), "b", after_s=60)
    assert isinstance(taken, dict)
    assert (taken["spec"]["holderIdentity"], taken["spec"]["leaseTransitions"]) == ("b", 1)


def test_a_released_lease_is_free_at_once_and_only_its_holder_releases_it() -> None:
    assert leases.released(held(), "b") is None
    assert leases.released(None, "a") is None
    free = leases.released(held(), "a")
    assert isinstance(claim(free, "b"), dict)


def test_a_written_lease_has_the_resource_version_that_was_read() -> None:
    read = {**held(), "metadata": {"name": "l", "namespace": "n", "resourceVersion": "7"}}
    renewed = claim(read, "a", after_s=1)
    assert isinstance(renewed, dict)
    assert renewed["metadata"]["resourceVersion"] == "7"


def test_renewals_come_often_enough_to_miss_some() -> None:
    assert leases.RENEW_EVERY_S * 3 <= leases.DURATION_S


def test_services_with_similar_names_have_separate_locks_and_journals(pair: tuple[Server, Api]) -> None:
    _, api = pair
    one, other = Service(namespace="a-b", name="c"), Service(namespace="a", name="b-c")
    assert Lock(api, one.subject, "a").take() is True
    assert Lock(api, other.subject, "b").take() is True
    journal.write(api, one.subject, OPEN)
    assert journal.read(api, other.subject) is None


def lock(api: Api, owner: str, at: datetime = NOW) -> Lock:
    return Lock(api, Service().subject, owner, clock=lambda: at)


def test_only_one_of_two_runs_gets_the_lock(pair: tuple[Server, Api]) -> None:
    _, api = pair
    assert lock(api, "a").take() is True
    refused = lock(api, "b").take()
    assert isinstance(refused, Pending)
    assert "run a" in refused.seen
    lock(api, "a").release()
    assert lock(api, "b").take() is True
    assert lock(api, "a").holder() == "b"


def test_a_service_is_in_use_only_by_a_live_run_other_than_the_own(pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    _, api = pair
    monkeypatch.setattr(journal, "FREE_WITHIN_S", 0.0)
    journal.wait_until_unlocked(api, Service().subject, "a")
    Lock(api, Service().subject, "a").take()
    journal.wait_until_unlocked(api, Service().subject, "a")
    with pytest.raises(InUse, match=r"mistral/mistral is under way.*run a holds it"):
        journal.wait_until_unlocked(api, Service().subject, "b")
    Lock(api, Service().subject, "a").release()
    lock(api, "a").take()  # long ago
    journal.wait_until_unlocked(api, Service().subject, "b")


class Where:
    """A site with this cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def api(self) -> Api:
        return self._api


def test_a_deployment_holds_the_lock_and_releases_it_for_the_drill_of_its_run(
    pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, api = pair
    monkeypatch.setattr(journal, "FREE_WITHIN_S", 0.0)
    site: Any = Where(api)
    open_ = journal.write(api, Service().subject, OPEN)
    steps.hold_lock.fn(site, Service(), OPEN.owner)
    for work in (steps.hold_lock.fn, lambda *more: steps.take_lock.fn(*more, "head-pod", 1.0)):
        with pytest.raises(InUse, match=r"deploy, drill, surge or refresh of mistral/mistral is under way.*run 12345678-aaaa holds it"):
            work(site, Service(), "b")
    steps.let_go_of_lock.fn(site, Service(), "b")
    assert Lock(api, Service().subject, "b").holder() == OPEN.owner
    steps.let_go_of_lock.fn(site, Service(), OPEN.owner)
    assert Lock(api, Service().subject, "b").holder() == ""
    assert journal.read(api, Service().subject) == open_


def overtaken(server: Server, api: Api) -> None:
    """Run a holds the lock and has renewed it; the next read returns the lease from before the renewal."""
    lock(api, "a").take()
    stale = server.objects[PATH]
    lock(api, "a", NOW + timedelta(seconds=1)).take()
    server.answers["GET", PATH] = (200, json.dumps(stale).encode())


def test_only_the_first_of_two_runs_that_read_the_same_lease_writes(pair: tuple[Server, Api]) -> None:
    server, api = pair
    overtaken(server, api)
    late = lock(api, "b", NOW + timedelta(seconds=70)).take()
    assert isinstance(late, Pending)
    assert server.objects[PATH]["spec"]["holderIdentity"] == "a"


def test_a_drill_notices_that_its_lock_was_taken_over(pair: tuple[Server, Api]) -> None:
    _, api = pair
    mine = Lock(api, Service().subject, "a")
    mine.take()
    with renewing(mine, every_s=0.02) as check:
        check()
        # A renewal may come between what b reads and what it writes.
        Until("b to take the lock", lambda: lock(api, "b", datetime.now(UTC) + timedelta(seconds=120)).take(), 60, 0).wait()
        Until("a to notice", lambda: noticed(check) or Pending("not yet"), 60, 0.01).wait()


def test_a_renewal_that_conflicts_with_another_one_of_the_same_run_does_not_lose_the_lock(pair: tuple[Server, Api]) -> None:
    server, api = pair
    overtaken(server, api)
    assert isinstance(lock(api, "a", NOW + timedelta(seconds=2)).take(), Pending)
    assert lock(api, "a", NOW + timedelta(seconds=2)).renew()


def test_a_service_that_is_being_deployed_is_listed_as_locked(pair: tuple[Server, Api]) -> None:
    _, api = pair
    journal.write(api, Service().subject, OPEN)
    Lock(api, Service().subject, "a").take()
    Lock(api, Service(namespace="b", name="c").subject, "b").take()
    assert journal.services_with_journals(api) == ["b.c", "mistral.mistral"]


def noticed(check: Callable[[], None]) -> bool:
    try:
        check()
    except LockLost:
        return True
    return False


def test_the_lock_is_renewed_until_the_end_of_the_block(pair: tuple[Server, Api]) -> None:
    server, api = pair
    mine = Lock(api, Service().subject, "a")
    mine.take()
    first = server.objects[PATH]["spec"]["renewTime"]

    def renewed() -> bool | Pending:
        return server.objects[PATH]["spec"]["renewTime"] > first or Pending("it is as it was")

    with renewing(mine, every_s=0.02):
        Until("a renewal", renewed, 60, 0.01).wait()


def test_a_journal_with_the_old_field_fault_keeps_its_fault_so_that_no_second_head_is_deleted() -> None:
    old = {"owner": "a", "drill": "head-pod", "started": 1.0, "before": None, "fault": {"pod": "h", "uid": "u", "at": 2.0, "done": True}}
    found = Journal.model_validate_json(json.dumps(old))
    assert found.faults == (deleted("h", "u", 2.0),)
    assert Journal.model_validate_json(json.dumps(old | {"fault": None})).faults == ()
    assert Journal.model_validate_json(found.model_dump_json()) == found


OPEN = Journal(owner="12345678-aaaa", drill="head-pod", started=1.0)


def test_a_retried_run_resumes_its_open_journal() -> None:
    with_fault = OPEN.model_copy(update={"faults": (deleted("head", "u", 2.0),)})
    assert with_fault.continued("12345678-aaaa", "head-pod", 9.0) is with_fault


def test_a_retried_run_goes_on_with_the_verdict_of_its_judged_drill_and_another_run_does_not() -> None:
    judged = OPEN.model_copy(update={"state": "judged", "faults": (deleted("head", "u", 2.0),)})
    assert judged.continued("12345678-aaaa", "head-pod", 9.0) is judged
    assert judged.continued("other", "head-pod", 9.0).faults == ()


def test_after_a_closed_journal_the_same_run_begins_another_attempt_with_another_load() -> None:
    closed = OPEN.model_copy(update={"state": "closed"})
    again = closed.continued("12345678-aaaa", "head-pod", 9.0)
    assert (again.started, again.fault) == (9.0, None)
    assert again.load_name != closed.load_name


def test_a_run_that_resumes_after_another_run_begins_another_attempt_with_its_own_folder(tmp_path: Path) -> None:
    again = OPEN.continued("other", "head-pod", 9.0).continued(OPEN.owner, "head-pod", 19.0)
    assert again.load_name != OPEN.load_name
    assert again.attempt != OPEN.attempt


def test_the_journal_is_read_from_the_cluster_as_it_was_written(pair: tuple[Server, Api]) -> None:
    _, api = pair
    assert journal.read(api, Service().subject) is None
    journal.write(api, Service().subject, OPEN)
    assert journal.read(api, Service().subject) == OPEN
