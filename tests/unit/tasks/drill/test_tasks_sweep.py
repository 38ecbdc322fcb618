"""What a dead drill left is removed: by a sweep of its run, by one of all dead runs, and by the next drill."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from kubernetes_server import Server, serving

from blocks.parameters import Infrastructure, Service
from drills.kubernetes.api import Api
from drills.runner import journal
from drills.runner.journal import Journal, Lock
from tasks import cleanup
from tasks.drill import steps
from tasks.support.site import Site

JOBS = "/apis/batch/v1/namespaces/leeward-load/jobs"
SERVICE = Service()
SITE = Site(target="t", infrastructure=Infrastructure())


@pytest.fixture
def pair() -> Iterator[tuple[Server, Api]]:
    with serving() as found:
        yield found


def put(server: Server, name: str) -> None:
    server.objects[f"{JOBS}/{name}"] = {"metadata": {"name": name}}


def jobs(server: Server) -> list[str]:
    return [path.rpartition("/")[2] for path in server.objects if path.startswith(JOBS)]


MINE, OTHERS = "12345678-aaaa", "99999999-bbbb"


@pytest.fixture
def swept(pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch) -> tuple[Server, Api]:
    """A cluster with the loads of two runs, which is the site of all tasks."""
    server, api = pair
    monkeypatch.setattr(Site, "api", lambda self: api)
    monkeypatch.setattr(Site, "block", SimpleNamespace(provisioned=True))
    for module in (cleanup, steps):
        monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("test"))
    for name in ("load-12345678-1", "load-12345678-2", "load-99999999-1"):
        put(server, name)
    return server, api


def test_a_sweep_removes_all_loads_of_its_run_and_no_other(swept: tuple[Server, Api]) -> None:
    server, api = swept
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="head-pod", started=1.0))
    Lock(api, SERVICE.subject, MINE).take()
    done = cleanup.sweep_drill.fn(SITE, SERVICE, MINE)
    assert done[:2] == [f"load {name} removed" for name in ("load-12345678-1", "load-12345678-2")]
    assert done[2:] == ["journal closed", "lock released"]
    assert jobs(server) == ["load-99999999-1"]


def test_a_sweep_removes_loads_that_outlived_their_closed_journal(swept: tuple[Server, Api]) -> None:
    server, api = swept
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="head-pod", started=1.0, state="closed"))
    assert len(cleanup.sweep_drill.fn(SITE, SERVICE, MINE)) == 2
    assert jobs(server) == ["load-99999999-1"]


def test_a_sweep_without_an_owner_removes_the_loads_of_dead_runs_only(swept: tuple[Server, Api]) -> None:
    server, api = swept
    journal.write(api, SERVICE.subject, Journal(owner=OTHERS, drill="head-pod", started=1.0))
    Lock(api, SERVICE.subject, OTHERS).take()
    assert cleanup.sweep_drill.fn(SITE, SERVICE, "") == []
    Lock(api, SERVICE.subject, OTHERS).release()
    assert cleanup.sweep_drill.fn(SITE, SERVICE, "") == ["load load-99999999-1 removed", "journal closed"]
    assert len(jobs(server)) == 2


def test_a_load_left_by_an_ended_attempt_is_removed_by_the_next_one(swept: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    server, api = swept
    monkeypatch.setattr(Api, "apply_all", lambda self, things: [])
    journal.write(api, SERVICE.subject, Journal(owner=MINE, drill="head-pod", started=1.0, state="closed"))
    steps.take_lock.fn(SITE, SERVICE, MINE, "head-pod", 9.0)
    assert jobs(server) == ["load-99999999-1"]
