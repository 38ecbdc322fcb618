"""The records of the load are read by offset through the pod proxy, and a missing load is reported as missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from drill_runs import deleted
from drilled_cluster import Quiet
from kubernetes_server import Server, serving

from blocks.errors import TimedOut
from blocks.parameters import Service
from drills.definition import Drill, Load
from drills.judge.traffic import on_observers_clock, phase_seen
from drills.judge.trust import doubts
from drills.kubernetes.api import Api, Unavailable
from drills.load import routes
from drills.observed import Versions
from drills.records import Kind, Record
from drills.runner import load_job
from drills.runner.journal import Journal
from drills.runner.load_job import LoadFailed, LoadJob
from drills.runner.raw_evidence import RawEvidence
from drills.runner.waiting import Pending, Until
from drills.runner.windows import load_of, windows
from drills.stages.run import Run, call_plainly
from drills.stages.steps import collect_records

PODS = "/api/v1/namespaces/leeward-load/pods"
PROXY = f"{PODS}/load-1-abc:8080/proxy"
SUBJECT = Service().subject


class LoadServer(Server):
    """A server with a load pod that sends its records in pieces of whole lines."""

    text = b""
    piece = 1 << 20
    state = "running"
    grows = b""
    """The bytes that the load writes during a read."""

    def handle(self, method: str, url: str, body: object) -> tuple[int, object]:
        parts = urlsplit(url)
        if parts.path == f"{PROXY}/records":
            offset = int(parse_qs(parts.query)["offset"][0])
            data = self.text[offset : offset + self.piece]
            self.text += self.grows
            self.requests.append((method, parts.path, {}))
            assert len(self.requests) < 100, "it is read for ever"
            return 200, data[: data.rfind(b"\n") + 1]
        if parts.path == f"{PROXY}/status":
            return 200, {"now": 1000.0, "state": self.state, "sent": 3, "started": 1.0, "stopped": None, "node": "core-2"}
        return super().handle(method, url, body)


def line(number: int) -> bytes:
    record = Record(number, "short", 1.0, 1.0, 1.1, (1.1,), 1, 1.2, "finished", 200)
    return record.to_line().encode()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LoadServer, Api]]:
    monkeypatch.setattr("kubernetes_server.Server", LoadServer)
    with serving() as (server, api):
        assert isinstance(server, LoadServer)
        put_pod(server, "Running")
        yield server, api


def put_pod(server: Server, phase: str) -> None:
    server.objects[f"{PODS}/load-1-abc"] = {
        "metadata": {"name": "load-1-abc", "creationTimestamp": "2026-11-23T12:00:00Z"},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_records_are_appended_where_the_last_reading_ended(pair: tuple[LoadServer, Api], tmp_path: Path) -> None:
    server, api = pair
    load, file = LoadJob(api, SUBJECT, "load-1"), tmp_path / "records.jsonl"
    server.text = line(1) + line(2)[:10]
    load.read_on(file)
    server.text = line(1) + line(2) + line(3)
    load.read_on(file)
    assert load.read_on(file) == 0
    assert [r.id for r in load_job.records_in(file)] == [1, 2, 3]


def test_records_longer_than_one_reply_are_read_to_the_end(
    pair: tuple[LoadServer, Api], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, api = pair
    server.text, server.piece = b"".join(line(n) for n in range(50)), 1000
    monkeypatch.setattr(load_job, "PIECE", 500)
    LoadJob(api, SUBJECT, "load-1").read_on(tmp_path / "r")
    assert [r.id for r in load_job.records_in(tmp_path / "r")] == list(range(50))


def test_reading_the_records_of_a_busy_load_ends(pair: tuple[LoadServer, Api], tmp_path: Path) -> None:
    server, api = pair
    assert 2 * load_job.PIECE <= routes.PIECE
    server.text = server.grows = line(1)
    LoadJob(api, SUBJECT, "load-1").read_on(tmp_path / "r")
    assert sum(path.endswith("/records") for _, path, _ in server.requests) <= 2


def test_a_load_that_warms_up_is_waited_for_and_one_that_runs_is_not(pair: tuple[LoadServer, Api]) -> None:
    server, api = pair
    server.state = "warming"
    assert isinstance(LoadJob(api, SUBJECT, "load-1").check_sending(), Pending)
    server.state = "running"
    assert LoadJob(api, SUBJECT, "load-1").check_sending() is True


@pytest.mark.parametrize("state", ["draining", "done"])
def test_a_load_that_has_sent_for_its_whole_time_cannot_begin_a_drill(pair: tuple[LoadServer, Api], state: str) -> None:
    pair[0].state = state
    with pytest.raises(LoadFailed, match="interrupted for too long"):
        LoadJob(pair[1], SUBJECT, "load-1").check_sending()


def test_the_error_of_a_load_that_ended_too_early_has_the_end_of_its_log(pair: tuple[LoadServer, Api]) -> None:
    server, api = pair
    put_pod(server, "Failed")
    server.answers["GET", f"{PODS}/load-1-abc/log"] = (200, b"the service gave no right answer within 120 s\n")
    with pytest.raises(LoadFailed, match="no right answer"):
        LoadJob(api, SUBJECT, "load-1").status()


def test_a_missing_load_is_a_permanent_error_and_a_silent_one_a_transient_error(pair: tuple[LoadServer, Api]) -> None:
    server, api = pair
    server.objects.clear()
    with pytest.raises(LoadFailed, match="gone"):
        LoadJob(api, SUBJECT, "load-1").status()
    put_pod(server, "Running")
    server.answers["POST", f"{PROXY}/stop"] = (502, b"")
    with pytest.raises(Unavailable):
        LoadJob(api, SUBJECT, "load-1").stop()


def test_the_clock_offset_is_that_of_the_load(pair: tuple[LoadServer, Api]) -> None:
    import time

    assert load_job.clock_offset(LoadJob(pair[1], SUBJECT, "load-1")) == pytest.approx(1000.0 - time.time(), abs=5)


def test_a_load_that_never_sent_has_no_result(tmp_path: Path) -> None:
    status = load_job.LoadStatus(now=1, state="done", sent=0, started=None, stopped=None)
    raw = RawEvidence(tmp_path)
    raw.add("load", status.model_dump())
    assert load_of(raw) is None
    assert json.loads(status.model_dump_json())["sent"] == 0


def test_waiting_for_a_load_on_a_lost_node_ends(pair: tuple[LoadServer, Api], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, api = pair
    monkeypatch.setattr(LoadServer, "handle", unreachable)
    monkeypatch.setattr(load_job, "SILENT_FOR_S", 0.0)
    with pytest.raises(TimedOut, match="load-1 to answer"):
        load_job.end_load(LoadJob(api, SUBJECT, "load-1"), tmp_path / "r", 10, lambda _: None)


def unreachable(server: LoadServer, method: str, url: str, body: object) -> tuple[int, object]:
    """The pod is listed, and its proxy does not answer."""
    if "/proxy/" in url:
        return 503, {"message": "no route to host"}
    return Server.handle(server, method, url, body)


def test_the_last_requests_may_take_as_long_as_the_longest_stream_before(
    pair: tuple[LoadServer, Api], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, api = pair
    server.state = "done"
    server.answers["POST", f"{PROXY}/stop"] = (200, b"{}")
    server.text = Record(1, "stream", 1.0, 1.0, 1.1, (1.1,), 1, 401.0, "finished", 200).to_line().encode()
    waits: dict[str, float] = {}

    def until(what: str, probe: Any, within: float, *more: Any) -> Until[Any]:
        waits[what] = within
        return Until(what, probe, within, *more)

    monkeypatch.setattr(load_job, "Until", until)
    status, offset = load_job.end_load(LoadJob(api, SUBJECT, "load-1"), tmp_path / "r", 10, lambda _: None)
    assert (status.sent, offset < 0) == (3, True)
    assert waits["the load's last requests to end"] == load_job.DRAIN_S + 10 + 400


def test_a_stream_alive_at_two_faults_counts_as_alive_at_both_and_as_a_record_of_the_later_one(tmp_path: Path) -> None:
    notes = tuple(deleted("head", "u", at) for at in (100.0, 140.0))
    journal = Journal(owner="run", drill="head-pod", started=1.0, faults=notes)
    drill = Drill.named("head-pod", load=Load(streams=2))
    ends: list[tuple[Kind, float, float]] = [("short", 99, 99.5), ("short", 120, 120.5), ("stream", 90, 150), ("stream", 101, 151)]
    found = [Record(n, kind, sent, sent, end, (end,), 1, end, "finished", 200) for n, (kind, sent, end) in enumerate(ends, 1)]
    RawEvidence(tmp_path).records.write_text("".join(record.to_line() for record in found))
    first, second = windows(tmp_path, journal, drill, Versions())
    assert [r.id for r in first.own] == [1, 2]
    assert [r.id for r in second.own] == [3, 4]
    assert (first.observation.outliving_streams, second.observation.outliving_streams) == (1, 0)
    for window in (first, second):
        requests = on_observers_clock(window.records, window.observation.clock_offset_s)
        those = doubts(drill, window.observation, requests, phase_seen("before", requests), None)
        assert not [doubt.reason for doubt in those if "were alive at the fault" in doubt.reason]


def test_a_fault_of_which_an_earlier_process_took_all_records_along_has_no_known_load(tmp_path: Path) -> None:
    notes = tuple(deleted(f"head-{n}", f"u{n}", 100.0 * n) for n in (1, 2))
    journal = Journal(owner="run", drill="head-pod", started=1.0, faults=notes)
    found = [window.observation.load for window in windows(tmp_path, journal, Drill.named("head-pod"), Versions())]
    assert found == [None, None]


def test_without_the_load_and_the_events_the_records_read_so_far_are_judged(pair: tuple[LoadServer, Api], tmp_path: Path) -> None:
    server, api = pair
    server.objects.clear()
    server.answers["GET", "/api/v1/namespaces/mistral/events"] = (403, b"{}")
    journal = Journal(owner="run", drill="head-pod", started=1.0)
    run = Run(SUBJECT, Drill.named("head-pod"), "run", "run", tmp_path, lambda: api, str, Quiet(), call_plainly)
    raw = RawEvidence(run.raw_folder(journal))
    raw.records.write_bytes(line(1))
    assert run.do(collect_records, journal) == 1
    (event,) = raw.events()
    raw.add("event", event.model_dump())
    (window,) = windows(raw.folder, journal, Drill.named("head-pod"), Versions())
    found = window.observation
    assert (found.events, found.load) == ((event,), None), "a try that came back noted it again"
