"""A cluster that refuses the pipeline, one that is missing and one that does not answer are different cases."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import pytest
from kubernetes_server import Server, serving

from blocks.cluster import ClusterNotActive, NoCluster
from blocks.parameters import Infrastructure, Service
from drills.kubernetes.api import Api, Unavailable
from drills.runner import journal
from drills.runner.waiting import Pending
from tasks import cleanup
from tasks.cluster import access
from tasks.cluster.access import PROBED_PATH, NoAccess, connect
from tasks.support.site import Site

SITE = Site(target="t", infrastructure=Infrastructure())


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Api]]:
    """A cluster that Terraform created, and its API."""
    with serving() as (server, api):
        monkeypatch.setattr(Site, "api", lambda self: api)
        block(monkeypatch, provisioned=True)
        yield server, api


def block(monkeypatch: pytest.MonkeyPatch, *, provisioned: bool) -> None:
    monkeypatch.setattr(Site, "block", SimpleNamespace(provisioned=provisioned, cluster="c"))


def refuse(server: Server, status: int) -> None:
    server.answers["GET", PROBED_PATH] = (status, b"{}")


def test_a_cluster_that_accepts_the_pipeline_is_used_at_once(pair: tuple[Server, Api]) -> None:
    _, api = pair
    looks: list[Pending] = []
    assert connect(SITE, looks.append) is api
    assert looks == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_cluster_that_still_refuses_the_pipeline_at_the_deadline_counts_as_no_access(pair: tuple[Server, Api], status: int) -> None:
    server, _ = pair
    refuse(server, status)
    with pytest.raises(NoAccess, match=f"c refuses the pipeline, as if it were half created or half destroyed: .*HTTP {status}"):
        connect(SITE, within_s=0)
    assert cleanup.sweep_drill.fn(SITE, Service(), "owner")[0].startswith("nothing to sweep: c refuses the pipeline")


def test_an_access_entry_that_takes_effect_later_is_waited_for(pair: tuple[Server, Api]) -> None:
    server, api = pair
    refuse(server, 401)
    assert connect(SITE, lambda seen: server.answers.clear(), within_s=10) is api


def test_a_refusal_by_a_cluster_that_terraform_did_not_create_does_not_count_as_half_destroyed(
    pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, api = pair
    refuse(server, 403)
    block(monkeypatch, provisioned=False)
    assert connect(SITE) is api


@pytest.mark.parametrize("reason", [NoCluster("there is none"), ClusterNotActive("it is DELETING")])
def test_a_missing_cluster_counts_as_no_access(monkeypatch: pytest.MonkeyPatch, reason: Exception) -> None:
    def fail(self: Site) -> Api:
        raise reason

    monkeypatch.setattr(Site, "api", fail)
    with pytest.raises(NoAccess, match=str(reason)):
        connect(SITE)


def test_a_cluster_that_does_not_answer_is_an_error_and_does_not_count_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (_, api):
        monkeypatch.setattr(Site, "api", lambda self: api)
        block(monkeypatch, provisioned=True)
    with pytest.raises(Unavailable, match=r"no answer.*public_access_cidrs"):
        connect(SITE, within_s=0)


def test_cleanup_goes_on_without_a_provisioned_cluster_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as (_, api):
        monkeypatch.setattr(Site, "api", lambda self: api)
        block(monkeypatch, provisioned=True)
    monkeypatch.setattr(cleanup, "UNRESPONSIVE_FOR_S", 0.0)
    monkeypatch.setattr(journal, "FREE_WITHIN_S", 0.0)
    assert cleanup.remove_service.fn(SITE, Service(), "owner").startswith("skipped: c: waited 0 s for the cluster to answer")
    assert "skipped, because the cluster is destroyed next: the check whether another run uses the service" in caplog.text
    with pytest.raises(Unavailable):
        cleanup.sweep_drill.fn(SITE, Service(), "owner")
    block(monkeypatch, provisioned=False)
    with pytest.raises(Unavailable):
        cleanup.remove_service.fn(SITE, Service(), "owner")


def test_a_cluster_that_answers_again_in_time_is_waited_for(pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    _, api = pair
    real, tries = api.raw, iter([Unavailable("no answer")])

    def raw(method: str, path: str) -> tuple[int, bytes]:
        if error := next(tries, None):
            raise error
        return real(method, path)

    monkeypatch.setattr(api, "raw", raw)
    looks: list[Pending] = []
    assert connect(SITE, looks.append, unresponsive_for_s=10) is api
    assert looks == [Pending("no answer")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(access, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(cleanup, "connect", partial(connect, within_s=0))
