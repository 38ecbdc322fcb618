"""A new kind of fault needs its class, its act and a catalogue file: one is added here whose effect is not a deleted pod.

The first process of the head's container is killed: the pod keeps its UID, and its restart count goes up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import surge_runs
from drill_runs import STRIKE, SURVIVES, T0, observation, records, snapshot
from kubernetes_server import SUCCESS, Message, Server, serving

from blocks.parameters import Service
from drills import definition, evidence, series
from drills.definition import Drill, Series
from drills.evidence import Evidence
from drills.faults import KINDS, Fault
from drills.judge.steady_state import not_recovered
from drills.judge.timeline import build_timeline
from drills.judge.trust import not_proven
from drills.judge.verdict import judge
from drills.kubernetes.api import Api
from drills.observed import HeadSeen, LoadSeen, Observation, Snapshot
from drills.report import render
from drills.runner import faults, journal
from drills.runner.acts.act import Act, Rule
from drills.runner.faults import ACTS
from drills.runner.journal import FaultNote, Journal
from drills.strikes import Strike, Target
from drills.subject import Subject

KIND = "restart-head-container"
YAML = f"name: head-container\ntitle: Head container restarted\ndescription: The head's container is killed.\nfault: {{kind: {KIND}}}\n"
KILL = ("kill", "1")
PLANNED = Strike(act=KIND, target=Target(name="head", uid="container-1"), at=5.0)
POD = "/api/v1/namespaces/mistral/pods/head"
SERVICE = Service()


class RestartHeadContainer(Fault):
    """The container of the head is restarted."""

    kind: Literal["restart-head-container"] = "restart-head-container"

    def happened(self, before: Snapshot, now: Snapshot, strike: Strike) -> bool:
        old, new = before.head, now.head
        return old is not None and new is not None and new.uid == strike.target.uid and new.restarts > old.restarts

    def unproven(self, strike: Strike) -> str:
        return "the container of the head has not restarted"


def find(api: Api, subject: Subject, fault: Fault, before: Snapshot | None) -> Strike:
    return PLANNED.model_copy(update={"target": PLANNED.target.model_copy(update={"uid": container(api)})})


def strike(api: Api, subject: Subject, fault: Fault, planned: Strike) -> Strike:
    if container(api) == planned.target.uid:
        api.exec("mistral", "head", "ray-head", KILL, timeout_s=5)
    return planned.model_copy(update={"done": True})


def container(api: Api) -> str:
    return str(api.get(POD)["status"]["containerStatuses"][0]["containerID"])


def head(container: str) -> dict[str, object]:
    return {"metadata": {"name": "head", "uid": "uid"}, "status": {"containerStatuses": [{"containerID": container}]}}


@pytest.fixture(autouse=True)
def drill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Drill]:
    """The new fault is known, and its drill is the only one in the catalogue."""
    (tmp_path / "head-container.yaml").write_text(YAML)
    monkeypatch.setitem(KINDS, KIND, RestartHeadContainer)
    monkeypatch.setitem(ACTS, KIND, Act(find, strike, needs=(Rule("pods/exec", ("get", "create")),)))
    monkeypatch.setattr(definition, "CATALOGUE", tmp_path)
    definition.catalogue.cache_clear()
    yield Drill.named("head-container")
    definition.catalogue.cache_clear()


def run(*, happened: bool = True) -> Observation:
    """A drill in which the head's container was restarted; or nothing was done."""

    def changed(now: Snapshot) -> Snapshot:
        if now.t <= T0:
            return now
        if not happened:
            return snapshot(SURVIVES, -1).model_copy(update={"t": now.t})
        back = now.head is not None
        new = HeadSeen(pod="mistral-head-old", uid="aaaa1111-old", restarts=int(back), running=back, ready=back and now.ready)
        return now.model_copy(update={"head": new})

    whole = observation(SURVIVES)
    return whole.model_copy(update={"snapshots": tuple(map(changed, whole.snapshots))})


def made(drill: Drill, seen: Observation) -> Evidence:
    return evidence.make_evidence(drill, seen, records(), judge(drill, seen, records()), target="embedded")


def test_its_class_and_its_rights_come_from_its_kind(drill: Drill) -> None:
    assert isinstance(drill.fault, RestartHeadContainer)
    assert drill.fault.describe() == KIND
    faults.check_known(drill.faults)
    assert [rule.resource for rule in faults.needs(drill.faults)] == ["pods/exec"]


@pytest.fixture
def pair() -> Iterator[tuple[Server, Api]]:
    with serving() as (server, api):
        server.objects[POD] = head("container-1")
        yield server, api


@pytest.mark.parametrize("planned", [(), (FaultNote(strikes=(PLANNED,)),)])
def test_its_act_is_done_once_and_written_down_before(pair: tuple[Server, Api], drill: Drill, planned: tuple[FaultNote, ...]) -> None:
    server, api = pair
    killed: list[Journal | None] = []

    def kill(pod: str, container: str, command: list[str]) -> list[Message]:
        killed.append(journal.read(api, SERVICE.subject))
        server.objects[POD] = head("container-2")
        return [SUCCESS]

    server.run = kill
    written = journal.write(api, SERVICE.subject, Journal(owner="run", drill=drill.name, started=1.0, faults=planned))
    for _ in range(2):
        written = faults.inject(api, SERVICE.subject, drill.faults, written)
        assert written.fault == FaultNote(strikes=(PLANNED.model_copy(update={"done": True}),), done=True)
    (before,) = killed
    assert before
    assert before.fault == FaultNote(strikes=(PLANNED,))


def test_a_drill_with_it_passes_and_its_evidence_and_report_name_it(drill: Drill) -> None:
    found = made(drill, run())
    assert (found.verdict, found.why, found.recovery_s) == ("passed", (), pytest.approx(17.3))
    assert found.headline.startswith("Head container restarted, and nobody noticed")
    told = next(event for event in build_timeline(run(), drill) if event.kind == "fault")
    assert (told.what, told.subject, told.detail) == ("head container restarted", "mistral-head-old", KIND)
    page = render.html(found, records())
    assert f"<dd>{KIND}</dd>" in page
    assert "grace period" not in page
    assert Evidence.model_validate_json(found.to_json()) == found


def test_a_drill_without_its_effect_is_void_and_says_what_did_not_change(drill: Drill) -> None:
    reason = "the container of the head has not restarted"
    nothing, before = run(happened=False), snapshot(SURVIVES, -1)
    assert not_recovered(before, before.model_copy(update={"t": T0 + 1}), drill, (STRIKE,)) == [reason]
    assert not_proven(drill, nothing) == f"the fault did not happen: {reason}"
    assert not_proven(drill, observation(SURVIVES)) == f"the fault did not happen: {reason}", "a new head pod is no restart"
    found = made(drill, nothing)
    assert found.verdict == "void"
    assert found.why[0] == f"The fault did not happen: {reason}."
    assert reason in render.html(found, records())


def test_a_failed_drill_does_not_blame_gcs_fault_tolerance_for_a_fault_that_does_not_need_it(drill: Drill) -> None:
    off = tuple(s.model_copy(update={"gcs_storage": False, "endpoints": s.endpoints[: 2 if s.t < T0 else 1]}) for s in run().snapshots)
    found = made(drill, run().model_copy(update={"snapshots": off}))
    assert found.verdict == "failed"
    assert "GCS" not in " ".join(found.why)


def test_a_series_of_it_has_no_grace(drill: Drill) -> None:
    plan, first = Series(repeat=2, graces="in-turn"), made(drill, run())
    assert plan.drill(drill, 2) == drill
    rows = [series.make_row(first, records(), f"fault-{n:03}").model_copy(update={"number": n, "verdict": "failed"}) for n in (1, 2)]
    whole = series.make_series(first, rows, drill, plan, LoadSeen(started=T0, stopped=T0, sent=2 * len(records())), None)
    assert whole.why[0].startswith("Fault 1 (failed): ")
    assert "Grace" not in render.series_html(whole)


@pytest.mark.parametrize(("restarts", "verdict"), [(1, "passed"), (0, "void")])
def test_a_surge_can_do_it_while_the_service_grows(restarts: int, verdict: str) -> None:
    whole = surge_runs.observation(surge_runs.HEAD_DIES)
    surge, deleted = whole.strikes
    snapshots = tuple(
        s.model_copy(update={"head": HeadSeen(pod="head", uid="old", restarts=restarts * (s.t > deleted.at), ready=True)})
        for s in whole.snapshots
    )
    seen = whole.model_copy(update={"snapshots": snapshots, "strikes": (surge, deleted.model_copy(update={"act": KIND}))})
    found = judge(surge_runs.plan("head-container"), seen, surge_runs.records(surge_runs.HEAD_DIES))
    assert found.verdict == verdict, found.why
    assert ("head container restarted" if restarts else "has not restarted") in found.headline
