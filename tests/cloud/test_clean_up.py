"""After a clean-up nothing is left: asked of the embedded AWS, of the cluster's machine side, and of the host."""

from __future__ import annotations

from typing import Any

import pytest
from machine_state import find_leftovers
from system_under_test import Run, System


def test_the_second_lifecycle_found_everything_in_place_and_passed(cleaned: Run) -> None:
    assert cleaned.state == "COMPLETED", cleaned.snapshot.message
    assert cleaned.evidence["verdict"] == "passed", cleaned.evidence["why"]
    assert cleaned.stage("cleanup")


@pytest.mark.parametrize("run", ["cleaned", "unprotected"])
def test_only_the_bucket_with_state_and_evidence_is_left_in_aws(run: str, request: pytest.FixtureRequest, system: System) -> None:
    request.getfixturevalue(run)
    left: dict[str, dict[str, list[str]]] = system.ask("leftovers")
    others = {service: kinds for service, kinds in left.items() if not service.startswith("s3")}
    assert others == {}


@pytest.mark.parametrize("run", ["cleaned", "unprotected"])
def test_the_bucket_holds_no_state_of_anything_and_every_evidence(
    run: str, request: pytest.FixtureRequest, system: System, aws: Any
) -> None:
    this: Run = request.getfixturevalue(run)
    s3 = aws("s3")
    (bucket,) = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert any(this.name in key and key.endswith("evidence.json") for key in keys)
    assert not [key for key in keys if key.endswith(".tflock")], "Terraform's lock"


def test_nothing_is_left_on_the_machine(taken_down: System) -> None:
    assert find_leftovers() == []
