"""Evidence is complete, reproducible, can be read again and has no secrets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drill_runs import LOSES, SURVIVES, T0, World, observation, records

from drills import evidence
from drills.evidence import BadEvidence, Evidence, read_records
from drills.judge.verdict import judge
from drills.observed import Event, Observation
from drills.redact import HIDDEN, clean
from drills.report import archive, junit, render, terminal


def made(world: World = SURVIVES, seen: Observation | None = None, **config: object) -> Evidence:
    those, observed = records(world), seen or observation(world)
    return evidence.make_evidence(
        world.drill, observed, those, judge(world.drill, observed, those), target="embedded", run="a-run", config=config
    )


def test_evidence_has_the_documented_keys() -> None:
    found = json.loads(made().to_json())
    assert {"verdict", "slos", "requests", "streams", "latency_ms", "recovery_s", "workers", "vitals", "events", "versions"} <= found.keys()
    assert found["verdict"] == "passed"
    assert found["slos"][0].items() >= {"name": "Failed requests", "target": "none", "actual": "0 of 800", "passed": True}.items()
    assert found["requests"] == {"sent": 800, "ok": 800, "failed": 0}
    assert found["streams"].items() >= {"sent": 136, "finished": 136, "cut": 0, "hung": 0}.items()
    assert found["latency_ms"].keys() == {"before", "during", "after"}
    assert found["latency_ms"]["during"].keys() == {"p50", "p99"}
    assert found["workers"][0].keys() >= {"pod", "uid_before", "uid_after", "restarts"}
    assert found["events"][0].items() >= {"t": 0.0, "what": "head pod deleted by force"}.items()


def test_the_counts_in_evidence_add_up() -> None:
    found = made(LOSES)
    s = found.streams
    assert s.sent == s.finished + s.cut + s.hung + s.refused + s.wrong
    assert found.requests.sent == found.requests.ok + found.requests.failed
    assert sum(p.requests for p in found.phases) == found.requests.sent
    assert sum(p.failed for p in found.phases) == found.requests.failed


def test_the_same_drill_gives_the_same_bytes() -> None:
    assert made(LOSES).to_json() == made(LOSES).to_json()


def test_all_four_files_are_written_and_can_be_read_again(tmp_path: Path) -> None:
    those = records(LOSES)
    folder = tmp_path / "run"
    archive.write(folder, made(LOSES), those)
    assert Evidence.load(folder / "evidence.json") == made(LOSES)
    assert read_records(folder / "records.jsonl") == those
    assert "<svg" in (folder / "report.html").read_text()
    assert (folder / "junit.xml").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"verdict": "passed"}', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_file_that_is_not_evidence_is_refused(tmp_path: Path, text: str | bytes) -> None:
    file = tmp_path / "evidence.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadEvidence, match="not the evidence of a drill"):
        Evidence.load(file)


SECRETS = ["hf_abcdefghijklmnopqrst", "AKIAABCDEFGHIJKLMNOP", "k8s-aws-v1.aHR0cHM6Ly9zdHM", "sesame-open-12"]


def test_no_secret_reaches_any_file(tmp_path: Path) -> None:
    hf, key, bearer, password = SECRETS
    seen = observation(SURVIVES)
    noisy = seen.model_copy(
        update={"events": (Event(t=seen.started, what="Failed", detail=f"dial rediss://:{password}@10.213.0.20:6379, token {bearer}"),)}
    )
    those = [replace(r, detail=f"401 with {hf}") for r in records(SURVIVES)]
    found = made(SURVIVES, noisy, hf_token=hf, aws={"access_key_id": key, "secret_access_key": password}, note=f"AUTH_TOKEN={password}")
    archive.write(tmp_path, found, those)
    for file in tmp_path.iterdir():
        assert [s for s in SECRETS if s in file.read_text()] == [], file
    assert HIDDEN in (tmp_path / "evidence.json").read_text()


def test_text_without_secrets_stays_the_same() -> None:
    plain = {"stream_tokens": 50, "detail": "10 tokens of 50, rediss://10.213.0.20:6379", "nodes": ["inf2-1"]}
    assert clean(plain) == plain


def test_junit_has_a_case_for_each_slo() -> None:
    suite = ElementTree.fromstring(junit.xml(made(LOSES)))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("10", "4", "0")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["Failed requests", "Lost streams", "Longest silence in a stream", "Workers touched"]


def in_part_doubtful() -> Evidence:
    """One request is lost after the fault, and the service was too slow before it."""
    slow = [replace(r, end=r.end + 4) if r.kind == "short" and r.end < T0 - 5 else r for r in records(SURVIVES)]
    late = next(r for r in slow if r.kind == "short" and r.due > T0 + 5)
    those, seen = [replace(r, outcome="refused") if r is late else r for r in slow], observation(SURVIVES)
    return evidence.make_evidence(SURVIVES.drill, seen, those, judge(SURVIVES.drill, seen, those), target="embedded")


def test_junit_distinguishes_promises_in_doubt_from_missed_ones() -> None:
    suite = ElementTree.fromstring(junit.xml(in_part_doubtful()))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("10", "1", "1")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["Failed requests"]
    (doubted,) = (case for case in suite if case.find("error") is not None)
    assert doubted.get("name") == "Latency, p99, before the fault"
    assert "in doubt: the service was too slow before the fault" in doubted[0].attrib["message"]


def test_the_terminal_and_the_report_distinguish_promises_in_doubt_from_missed_ones() -> None:
    told = terminal.summary(found := in_part_doubtful())
    assert "✘ Failed requests" in told
    assert "? Latency, p99, before the fault" in told
    rows = render.html(found, records(SURVIVES)).split("<tr")
    (doubted,) = (row for row in rows if "? in doubt" in row)
    assert "Latency, p99, before the fault" in doubted
    assert "the service was too slow before the fault: p99 4," in doubted
    assert "missed" not in doubted


def test_evidence_from_before_there_were_doubts_can_be_read(tmp_path: Path) -> None:
    older = json.loads(made(LOSES).to_json())
    for slo in older["slos"]:
        del slo["doubted"]
    file = tmp_path / "evidence.json"
    file.write_text(json.dumps(older), encoding="utf-8")
    assert Evidence.load(file) == made(LOSES)


def test_junit_of_a_drill_without_a_verdict_is_an_error() -> None:
    for changes in ({"aborted": "stopped \x00 by a person"}, {"load": None}):
        suite = ElementTree.fromstring(junit.xml(made(SURVIVES, observation(SURVIVES).model_copy(update=changes))))
        assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
        assert suite.find("testcase/error") is not None


def test_the_terminal_shows_the_verdict_and_its_reasons() -> None:
    told = terminal.summary(made(LOSES))
    assert told.startswith("✘ FAILED\n")
    assert "208 of 800" in told
    assert "GCS fault tolerance is off" in told
    assert "\033" not in told
    assert "\033[1;32m" in terminal.summary(made(), colour=True)
