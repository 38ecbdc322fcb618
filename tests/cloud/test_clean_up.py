"""After a clean-up nothing is left in the embedded AWS and on the machine."""

from __future__ import annotations

from typing import Any

import pytest
from machine_state import find_leftovers
from system_under_test import Run, System


def test_a_second_lifecycle_on_existing_infrastructure_passes_and_cleans_up(cleaned: Run) -> None:
    assert cleaned.state == "COMPLETED", cleaned.snapshot.message
    assert cleaned.evidence["verdict"] == "passed", cleaned.evidence["why"]
    assert cleaned.stage("cleanup")


@pytest.mark.parametrize("run", ["cleaned", "unprotected"])
def test_after_a_clean_up_only_the_bucket_is_left_in_aws(run: str, request: pytest.FixtureRequest, system: System) -> None:
    request.getfixturevalue(run)
    left: dict[str, dict[str, list[str]]] = system.ask("leftovers")
    others = {service: kinds for service, kinds in left.items() if not service.startswith("s3")}
    assert others == {}


@pytest.mark.parametrize("run", ["cleaned", "unprotected"])
def test_after_a_clean_up_the_bucket_holds_the_evidence_and_no_terraform_lock(
    run: str, request: pytest.FixtureRequest, system: System, aws: Any
) -> None:
    this: Run = request.getfixturevalue(run)
    s3 = aws("s3")
    (bucket,) = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert any(this.name in key and key.endswith("evidence.json") for key in keys)
    assert not [key for key in keys if key.endswith(".tflock")], "Terraform's lock"


def test_nothing_is_left_on_the_machine_after_everything_was_taken_down(taken_down: System) -> None:
    assert find_leftovers() == []
