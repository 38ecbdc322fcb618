"""The head dies again and again under one load: three times in every run of the tests, twenty times in the long one."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import old_shape
import pytest
from kubernetes import config
from world import WITHIN_S, Run, World

from blocks.parameters import SERVICE
from drills.definition import Drill
from tasks.drill.journal import remove_load
from tasks.drill.load_job import LoadJob, end_load, records_in
from tasks.kubernetes.api import Api
from tasks.support.waiting import Until


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
def test_in_the_shape_that_the_service_once_had_a_series_loses_something(outdated: World) -> None:
    run = outdated.run("drill/main", within_s=2 * 3600, repeat=20, stop_at_first_loss=True)
    assert run.sight.label == "VerdictFailed", run.sight.message
    assert run.evidence["lossy"]["lossy"] > 0, run.evidence["why"]
    assert run.evidence["faults"][0]["grace"] == "default"


@pytest.mark.long
def test_a_deployment_brings_the_old_shape_over_and_nobody_notices(outdated: World, tmp_path: Path) -> None:
    assert head_addresses(outdated) == ["None"]
    api = Api(config.new_client_from_config(str(outdated.kubeconfig)))
    traffic = Drill.named("head-pod").load
    load = LoadJob(api, "load-while-the-shape-changes")
    (head,) = outdated.objects("pods", "-l", "ray.io/node-type=head")["items"]
    load.start(SERVICE, head["spec"]["containers"][0]["image"], traffic, WITHIN_S)
    try:
        Until("the load to send", load.check_sending, WITHIN_S, 1.0).wait()
        run = outdated.run("deploy/main")
        end_load(load, tmp_path / "records.jsonl", traffic.patience_s, lambda _: None)
    finally:
        remove_load(api, load.name)
    assert run.state == "COMPLETED", run.sight.message
    records = list(records_in(tmp_path / "records.jsonl"))
    assert len(records) > 500
    assert [record for record in records if not record.ok] == []
    assert "None" not in head_addresses(outdated)
    left = [pod["metadata"]["name"] for pod in outdated.objects("pods")["items"] if old_shape.NAME in json.dumps(pod["spec"])]
    assert left == [], "nothing of the old shape is in the pods that serve now"


def head_addresses(world: World) -> list[str]:
    """Cluster addresses of the Services behind which the Ray clusters' heads are looked for; "None": headless."""
    services = world.objects("services", "-l", "ray.io/node-type=head,ray.io/cluster")["items"]
    return [service["spec"]["clusterIP"] for service in services]
