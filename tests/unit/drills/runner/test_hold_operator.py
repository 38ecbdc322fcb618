"""KubeRay's operator is kept from its work by its own lease, which runs out by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes_server import Server, serving

from blocks.parameters import Service
from drills.faults import HoldOperator
from drills.kubernetes import leases
from drills.kubernetes.api import Api
from drills.observed import Snapshot
from drills.runner.acts import hold_operator
from drills.runner.acts.act import NothingToBreak
from drills.strikes import Strike

SUBJECT = Service().subject
ALL = "/apis/coordination.k8s.io/v1/leases"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kuberay-system/leases/ray-operator-leader"
FAULT = HoldOperator(for_s=60)


def lease(holder: str, renewed_s_ago: float = 1.0, version: str = "1") -> dict[str, Any]:
    renewed = leases.text(datetime.now(UTC) - timedelta(seconds=renewed_s_ago))
    return {
        "metadata": {"name": "ray-operator-leader", "namespace": "kuberay-system", "uid": "uid-lease", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15},
    }


class Operator:
    """The operator's lease at the API server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.objects[LEASE] = lease("operator-1")
        self.listed(server.objects[LEASE])

    def listed(self, *found: dict[str, Any]) -> None:
        self.server.answers["GET", ALL] = (200, {"items": list(found)})  # type: ignore[assignment]  # encoded by the server

    @property
    def spec(self) -> dict[str, Any]:
        return dict(self.server.objects[LEASE]["spec"])


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Operator, Api]]:
    monkeypatch.setattr(hold_operator, "LETS_GO_S", 0.0)
    with serving() as (server, api):
        yield Operator(server), api


def struck(api: Api) -> Strike:
    return hold_operator.strike(api, SUBJECT, FAULT, hold_operator.find(api, SUBJECT, FAULT, None))


def test_the_lease_is_held_for_the_time_of_the_fault_and_that_proves_it(operator: tuple[Operator, Api]) -> None:
    seen, api = operator
    done = struck(api)
    assert (seen.spec["holderIdentity"], seen.spec["leaseDurationSeconds"]) == (done.target.mark, 60)
    assert leases.holder({"spec": seen.spec}, datetime.now(UTC) + timedelta(seconds=61)) == "", "it runs out by itself"
    assert (done.done, done.ended) == (True, pytest.approx(done.at + 60))
    assert FAULT.happened(Snapshot(t=1), Snapshot(t=2), done)
    assert not FAULT.happened(Snapshot(t=1), Snapshot(t=2), done.model_copy(update={"told": ""}))


def test_a_second_try_after_a_crash_does_not_hold_it_for_longer(operator: tuple[Operator, Api]) -> None:
    seen, api = operator
    planned = hold_operator.find(api, SUBJECT, FAULT, None)
    hold_operator.strike(api, SUBJECT, FAULT, planned)
    held = seen.spec
    hold_operator.strike(api, SUBJECT, FAULT, planned)
    assert seen.spec == held


def test_a_renewal_between_reading_and_writing_is_no_error(operator: tuple[Operator, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, api = operator
    get, reads = api.get, []

    def get_stale_at_first(path: str, **query: object) -> dict[str, Any]:
        reads.append(path)
        return lease("operator-1", version="0") if reads.count(LEASE) == 1 else get(path, **query)

    planned = hold_operator.find(api, SUBJECT, FAULT, None)
    monkeypatch.setattr(api, "get", get_stale_at_first)
    hold_operator.strike(api, SUBJECT, FAULT, planned)
    assert seen.spec["holderIdentity"] == planned.target.mark
    assert reads.count(LEASE) > 2, "read, read again, and looked at in the end"


def test_an_operator_that_takes_the_lease_back_was_not_away(operator: tuple[Operator, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, api = operator
    monkeypatch.setattr("time.sleep", lambda _: seen.server.objects.update({LEASE: lease("operator-1")}))
    with pytest.raises(NothingToBreak, match="took the lease"):
        struck(api)


@pytest.mark.parametrize("found", [(), (lease("operator-1", renewed_s_ago=3600),), (lease("a"), lease("b"))])
def test_without_exactly_one_operator_that_elects_a_leader_nothing_is_done(
    operator: tuple[Operator, Api], found: tuple[dict[str, Any], ...]
) -> None:
    seen, api = operator
    seen.listed(*found)
    with pytest.raises(NothingToBreak, match="exactly one"):
        struck(api)


def test_undo_gives_the_lease_up_and_takes_it_from_nobody_else(operator: tuple[Operator, Api]) -> None:
    seen, api = operator
    done = struck(api)
    hold_operator.undo(api, SUBJECT, done)
    assert seen.spec["holderIdentity"] == ""
    seen.server.objects[LEASE] = lease("operator-1")
    hold_operator.undo(api, SUBJECT, done)
    assert seen.spec["holderIdentity"] == "operator-1"
    del seen.server.objects[LEASE]
    hold_operator.undo(api, SUBJECT, done)
