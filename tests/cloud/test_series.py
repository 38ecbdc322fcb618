"""The head dies again and again under one load: three times in every run of the tests, twenty times in the long one."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from world import Run, World


def evidence_of(run: Run, number: int) -> dict[str, Any]:
    """That of one fault of a series."""
    return dict(json.loads((run.folder / f"fault-{number:03}" / "evidence.json").read_text()))


def test_a_short_series_with_both_graces_loses_nothing(cleaned: Run) -> None:
    assert cleaned.evidence["verdict"] == "passed", cleaned.evidence["why"]
    faults = cleaned.evidence["faults"]
    assert [fault["grace"] for fault in faults] == ["forced", "default", "forced"]
    for fault in faults:
        assert fault["requests"]["lost"] == fault["streams"]["lost"] == fault["workers_touched"] == 0
        assert fault["requests"]["sent"] > 0
        assert fault["recovery_s"] > 0


def test_each_of_its_faults_struck_another_head_and_the_same_workers(cleaned: Run) -> None:
    seen = [evidence_of(cleaned, number) for number in (1, 2, 3)]
    heads = [{pod["uid"] for pod in one["pods"] if pod["role"] == "head"} for one in seen]
    assert len(set.union(*heads)) == 4, "one before the first fault, and one after each"
    workers = [{worker["uid_before"] for worker in one["workers"]} for one in seen]
    assert workers[0] == workers[1] == workers[2]


def test_every_request_of_a_series_is_counted_once(cleaned: Run) -> None:
    ids = set()
    for number in (1, 2, 3):
        for line in (cleaned.folder / f"fault-{number:03}" / "records.jsonl").read_text().splitlines():
            ids.add(json.loads(line)["id"])
    assert len(ids) == cleaned.evidence["requests"]["sent"] + cleaned.evidence["streams"]["sent"]


def test_what_could_grow_is_seen_after_each_recovery(cleaned: Run) -> None:
    for fault in cleaned.evidence["faults"]:
        assert None not in fault["vitals"].values(), fault["vitals"]
        assert fault["vitals"]["head_memory_bytes"] > 50 * 2**20
        assert fault["vitals"]["redis_entries"] > 0


def test_the_page_of_a_series_is_one_file_that_leads_to_the_reports_of_its_faults(cleaned: Run) -> None:
    html = (cleaned.folder / "series.html").read_text()
    links = re.findall(r"""(?:src|href)\s*=\s*["']?(?!#|data:)([^"'\s>]+)""", html)
    assert links == [f"fault-{number:03}/report.html" for number in (1, 2, 3)]
    assert all((cleaned.folder / link).exists() for link in links)
    suite = ET.parse(cleaned.folder / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "0", "0")


def test_prefect_shows_one_verdict_for_the_series_and_tells_its_task_runs_apart(cleaned: Run, world: World) -> None:
    artifacts = world.services.api.artifacts(cleaned.identity)
    assert [artifact["key"] for artifact in artifacts if artifact["type"] == "markdown" and artifact["key"] == "verdict"] == ["verdict"]
    assert {f"observe recovery {number} of 3" for number in (1, 2, 3)} <= set(cleaned.stage("drill"))


@pytest.mark.long
def test_twenty_heads_die_and_nobody_notices(protected: Run, world: World) -> None:
    run = world.run("drill/main", within_s=2 * 3600, repeat=20, graces="in-turn")
    assert run.state == "COMPLETED", (run.sight.message, run.evidence["why"])
    assert (run.evidence["done"], run.evidence["lossy"]["lossy"]) == (20, 0)
    assert [fault["grace"] for fault in run.evidence["faults"]] == ["default", "forced"] * 10
    assert run.evidence["requests"]["lost"] == run.evidence["streams"]["lost"] == 0
    assert sum(fault["workers_touched"] for fault in run.evidence["faults"]) == 0
