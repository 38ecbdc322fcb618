"""The head is deleted repeatedly under one load: twice in every run of the tests, twenty times in the long one."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import old_shape
import pytest
from kubernetes import config
from system_under_test import WITHIN_S, Run, System

from blocks.parameters import SERVICE
from drills.definition import Drill
from drills.kubernetes.api import Api
from drills.runner.journal import remove_load
from drills.runner.load_job import LoadJob, Placement, end_load, records_in
from drills.runner.waiting import Until


def evidence_of(run: Run, number: int) -> dict[str, Any]:
    """Return the evidence of one fault of a series."""
    return dict(json.loads((run.folder / f"fault-{number:03}" / "evidence.json").read_text()))


def test_a_short_series_with_both_graces_loses_nothing(cleaned: Run) -> None:
    assert cleaned.evidence["verdict"] == "passed", cleaned.evidence["why"]
    faults = cleaned.evidence["faults"]
    assert [fault["grace"] for fault in faults] == ["forced", "default"]
    for fault in faults:
        assert fault["requests"]["lost"] == fault["streams"]["lost"] == fault["workers_touched"] == 0
        assert fault["requests"]["sent"] > 0
        assert fault["recovery_s"] > 0


def test_each_fault_of_a_series_deleted_another_head_and_the_workers_stayed_the_same(cleaned: Run) -> None:
    seen = [evidence_of(cleaned, number) for number in (1, 2)]
    heads = [{pod["uid"] for pod in one["pods"] if pod["role"] == "head"} for one in seen]
    assert len(set.union(*heads)) == 3, "one before the first fault, and one after each"
    workers = [{worker["uid_before"] for worker in one["workers"]} for one in seen]
    assert workers[0] == workers[1]


def test_every_request_of_a_series_is_counted_once(cleaned: Run) -> None:
    ids = set()
    for number in (1, 2):
        for line in (cleaned.folder / f"fault-{number:03}" / "records.jsonl").read_text().splitlines():
            ids.add(json.loads(line)["id"])
    assert len(ids) == cleaned.evidence["requests"]["sent"] + cleaned.evidence["streams"]["sent"]


def test_memory_and_redis_entries_are_measured_after_each_recovery(cleaned: Run) -> None:
    for fault in cleaned.evidence["faults"]:
        assert None not in fault["vitals"].values(), fault["vitals"]
        assert fault["vitals"]["head_memory_bytes"] > 50 * 2**20
        assert fault["vitals"]["redis_entries"] > 0


def test_the_report_of_a_series_is_one_file_with_links_to_the_reports_of_its_faults(cleaned: Run) -> None:
    html = (cleaned.folder / "series.html").read_text()
    links = re.findall(r"""(?:src|href)\s*=\s*["']?(?!#|data:)([^"'\s>]+)""", html)
    assert links == [f"fault-{number:03}/report.html" for number in (1, 2)]
    assert all((cleaned.folder / link).exists() for link in links)
    suite = ET.parse(cleaned.folder / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "0", "0")


def test_prefect_shows_one_verdict_for_a_series_and_a_task_run_per_fault(cleaned: Run, system: System) -> None:
    artifacts = system.services.api.artifacts(cleaned.identity)
    assert [artifact["key"] for artifact in artifacts if artifact["type"] == "markdown" and artifact["key"] == "verdict"] == ["verdict"]
    assert {f"observe recovery {number} of 2" for number in (1, 2)} <= set(cleaned.stage("drill"))


@pytest.mark.long
def test_a_series_on_the_old_shape_of_the_service_has_losses(outdated: System) -> None:
    # The stalls, at faults with the head's own grace from the second one on, take 8 to 12 s; ten seconds of patience outlast some.
    run = outdated.run("drill/main", within_s=2 * 3600, repeat=20, graces="in-turn", stop_at_first_loss=True, load={"patience_s": 8})
    assert run.snapshot.label == "VerdictFailed", run.snapshot.message
    assert run.evidence["lossy"]["lossy"] > 0, run.evidence["why"]


@pytest.mark.long
def test_a_deployment_replaces_the_old_shape_under_load_and_loses_no_request(outdated: System, tmp_path: Path) -> None:
    assert head_addresses(outdated) == ["None"]
    api = Api(config.new_client_from_config(str(outdated.kubeconfig)))
    traffic = Drill.named("head-pod").load
    load = LoadJob(api, SERVICE.subject, "load-while-the-shape-changes")
    (head,) = outdated.objects("pods", "-l", "ray.io/node-type=head")["items"]
    load.start(Placement(image=head["spec"]["containers"][0]["image"]), traffic, WITHIN_S)
    try:
        Until("the load to send", load.check_sending, WITHIN_S, 1.0).wait()
        run = outdated.run("deploy/main")
        end_load(load, tmp_path / "records.jsonl", traffic.patience_s, lambda _: None)
    finally:
        remove_load(api, SERVICE.subject, load.name)
    assert run.state == "COMPLETED", run.snapshot.message
    records = list(records_in(tmp_path / "records.jsonl"))
    assert len(records) > 500
    assert [record for record in records if not record.ok] == []
    assert "None" not in head_addresses(outdated)
    left = [pod["metadata"]["name"] for pod in outdated.objects("pods")["items"] if old_shape.NAME in json.dumps(pod["spec"])]
    assert left == [], "the pods that serve now have nothing of the old shape"


def head_addresses(system: System) -> list[str]:
    """Return the cluster IPs of the heads' Services; "None" is a headless one."""
    services = system.objects("services", "-l", "ray.io/node-type=head,ray.io/cluster")["items"]
    return [service["spec"]["clusterIP"] for service in services]
