"""A target that does not approve plans itself: a plan is applied only with its own digest, also from Prefect's form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from system_under_test import System

STACK = {"name": "careful"}
OTHER = "0123456789ab"
"""The digest of no plan."""


@pytest.fixture
def careful(cloud: System, aws: Any, tmp_path: Path) -> Iterator[System]:
    """The empty cloud with a target of that name. Its plan makes a bucket and a password, which are deleted again."""
    file = tmp_path / "target.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({key: value for key, value in cloud.endpoint.items() if key != "auto_approve"}))
    saved = cloud.python("blocks.register", "careful", "--from", str(file), environment=cloud.services.environment)
    assert saved.returncode == 0, saved.stderr
    before = len(cloud.runs)
    yield cloud
    assert cloud.run("cleanup/main", target="careful", infrastructure=STACK).state == "COMPLETED"
    del cloud.runs[before:]
    s3 = aws("s3")
    for bucket in [each["Name"] for each in s3.list_buckets()["Buckets"] if each["Name"].startswith("leeward-careful-")]:
        for version in s3.list_object_versions(Bucket=bucket).get("Versions", ()):
            s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
        for marker in s3.list_object_versions(Bucket=bucket).get("DeleteMarkers", ()):
            s3.delete_object(Bucket=bucket, Key=marker["Key"], VersionId=marker["VersionId"])
        s3.delete_bucket(Bucket=bucket)


def test_a_plan_needs_its_own_digest_from_a_parameter_or_from_the_form(careful: System) -> None:
    refused = careful.run("provision/main", target="careful", infrastructure=STACK, approval_within_min=0, approved=OTHER)
    digest = re.findall(f"approved is {OTHER}, and this plan is ([0-9a-f]{{12}})", refused.snapshot.message)
    assert (refused.state, len(digest)) == ("FAILED", 1), refused.snapshot.message

    _, run = careful.start("provision/main", target="careful", infrastructure=STACK, approval_within_min=5)
    api = careful.services.api
    careful.until("the run is paused", lambda: api.get(f"/flow_runs/{run}")["state"]["type"] == "PAUSED")
    form = api.post(f"/flow_runs/{run}/input/filter", {"prefix": "paused", "limit": 10})
    assert digest[0] in json.dumps(form), "the form shows the digest, which the same plan has again"
    api.post(f"/flow_runs/{run}/resume", {"run_input": {"plan": OTHER, "may_replace": True}})
    careful.until("the run has ended", lambda: api.get(f"/flow_runs/{run}")["state"]["name"] == "NotApproved")
    assert set(careful.ask("leftovers")) <= {"s3/aws", "secretsmanager/us-west-2"}, "the state's bucket and the password alone"
