"""The whole pipeline with all defaults: the head is deleted under load, and no request is lost."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from typing import Any

from system_under_test import Run, System

ASK_THE_HEAD = """
import os, sys, urllib.error, urllib.request
token = os.environ["RAY_AUTH_TOKEN"]
for headers in ({}, {"Authorization": f"Bearer {token}x"}, {"Authorization": f"Bearer {token}"}):
    # Not a job that would run: the last one is refused for what it lacks.
    job = urllib.request.Request("http://mistral-head-svc:8265/api/jobs/", b"{}", {"Content-Type": "application/json", **headers})
    try:
        print(urllib.request.urlopen(job, timeout=30).status)
    except urllib.error.HTTPError as refused:
        print(refused.code)
"""
"""Program for a worker: it submits jobs to the head, without the token that it has, with another, and with it."""
STAGES = ("provision", "verify", "deploy", "drill", "cleanup")


def test_a_lifecycle_with_all_defaults_completes_with_the_verdict_passed(protected: Run) -> None:
    assert protected.evidence["verdict"] == "passed", protected.evidence["why"]
    assert protected.state == "COMPLETED", protected.snapshot.message


def test_a_lifecycle_with_keep_runs_every_stage_but_the_clean_up(protected: Run) -> None:
    assert [bool(protected.stage(stage)) for stage in STAGES] == [True, True, True, True, False]


def test_no_request_fails_and_no_stream_is_cut_while_there_is_no_head(protected: Run) -> None:
    seen = protected.evidence
    assert seen["requests"]["failed"] == 0
    assert seen["requests"]["sent"] == seen["requests"]["ok"]
    assert seen["streams"]["cut"] == seen["streams"]["hung"] == 0
    assert seen["streams"]["sent"] == seen["streams"]["finished"]


def test_the_load_was_at_least_that_of_the_drills_definition(protected: Run) -> None:
    load, seen = protected.evidence["definition"]["load"], protected.evidence
    assert load["short_per_s"] >= 10
    assert load["streams"] >= 8
    lasted = seen["window"]["end"] - seen["window"]["start"]
    assert seen["requests"]["sent"] >= 0.8 * load["short_per_s"] * min(lasted, 50)
    assert seen["streams"]["sent"] >= load["streams"]


def test_the_workers_were_neither_replaced_nor_restarted(protected: Run) -> None:
    workers = protected.evidence["workers"]
    assert len(workers) == 2
    for worker in workers:
        assert worker["uid_before"] == worker["uid_after"]
        assert worker["restarts"] == 0


def test_the_head_really_was_replaced_and_recovered(protected: Run) -> None:
    events = " ".join(event["what"] for event in protected.evidence["events"])
    assert re.search("head", events)
    assert protected.evidence["recovery_s"] > 0


def test_the_evidence_has_at_least_its_documented_fields(protected: Run) -> None:
    seen: dict[str, Any] = protected.evidence
    assert {"verdict", "slos", "requests", "streams", "latency_ms", "recovery_s", "workers", "events", "versions"} <= seen.keys()
    assert {"name", "target", "actual", "passed"} <= seen["slos"][0].keys()
    assert {"sent", "ok", "failed"} <= seen["requests"].keys()
    assert {"sent", "finished", "cut", "hung"} <= seen["streams"].keys()
    assert {"before", "during", "after"} <= seen["latency_ms"].keys()
    assert {"p50", "p99"} <= seen["latency_ms"]["before"].keys()
    assert {"pod", "uid_before", "uid_after", "restarts"} <= seen["workers"][0].keys()
    assert {"t", "what"} <= seen["events"][0].keys()


def test_the_records_hold_every_request_once(protected: Run) -> None:
    lines = (protected.folder / "records.jsonl").read_text().splitlines()
    seen = protected.evidence
    assert len(lines) == seen["requests"]["sent"] + seen["streams"]["sent"]
    assert len({json.loads(line)["id"] for line in lines}) == len(lines)


def test_the_report_is_one_file_that_loads_no_other(protected: Run) -> None:
    html = (protected.folder / "report.html").read_text()
    assert "<svg" in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!#|data:)[^"'\s>]+""", html)
    assert not re.findall(r"@import|url\((?!#|['\"]?data:)", html)


def test_the_junit_file_has_a_passed_case_for_every_slo(protected: Run) -> None:
    suite = ET.parse(protected.folder / "junit.xml").getroot()
    assert len(list(suite.iter("testcase"))) >= len(protected.evidence["slos"])
    assert [failure.get("message") for failure in suite.iter("failure")] == []


def test_the_evidence_is_also_in_the_bucket(protected: Run, aws: Any) -> None:
    s3 = aws("s3")
    keys = [
        item["Key"] for bucket in s3.list_buckets()["Buckets"] for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])
    ]
    assert {"evidence.json", "report.html", "records.jsonl"} <= {key.rsplit("/", 1)[-1] for key in keys if protected.name in key}


def test_progress_and_results_are_artifacts_in_prefect(protected: Run, system: System) -> None:
    artifacts = system.services.api.artifacts(protected.identity)
    kinds = {artifact["type"] for artifact in artifacts}
    assert {"progress", "markdown"} <= kinds
    finished = [artifact for artifact in artifacts if artifact["type"] == "progress"]
    assert all(artifact["data"] == 100 for artifact in finished), [(a["key"], a["data"]) for a in finished]


def test_verify_completes_when_it_is_run_by_itself(protected: Run, system: System) -> None:
    assert system.run("verify/main").state == "COMPLETED"


def test_no_secret_reached_a_log_an_artifact_or_the_evidence(protected: Run, system: System, aws: Any) -> None:
    manager = aws("secretsmanager")
    secrets = {system.endpoint["secret_access_key"]}
    for listed in manager.list_secrets()["SecretList"]:
        secrets.add(manager.get_secret_value(SecretId=listed["ARN"])["SecretString"])
    assert len(secrets) >= 2, "the Redis AUTH token is one"
    secrets.add(base64.b64decode(system.objects("secret", "ray-token")["data"]["auth_token"]).decode())
    texts = {"the log": protected.log, "the artifacts": json.dumps(system.services.api.artifacts(protected.identity))}
    texts |= {str(path): path.read_text(errors="replace") for path in protected.folder.rglob("*") if path.is_file()}
    assert not [source for source, text in texts.items() for secret in secrets if secret in text]


def test_a_pod_without_rays_token_can_run_no_job_in_the_head(protected: Run, system: System) -> None:
    worker = system.objects("pods", "-l", "leeward.dev/component=worker")["items"][0]["metadata"]["name"]
    asked = system.kubectl("-n", "mistral", "exec", worker, "-c", "ray-worker", "--", "python3", "-c", ASK_THE_HEAD)
    assert asked.stdout.split() == ["401", "403", "400"], asked.stdout + asked.stderr


def test_only_the_owner_can_read_the_kubeconfig_and_the_aws_configuration(protected: Run, system: System) -> None:
    readable = [path for path in (system.kubeconfig, system.kubeconfig.with_name("aws-config")) if path.stat().st_mode & 0o077]
    assert not readable
