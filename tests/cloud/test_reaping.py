"""A stack that was given an end is found by its bucket's tag and removed; a later end, or none, leaves it alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from system_under_test import System

STACK = "brief"


@pytest.fixture
def brief(cloud: System, aws: Any) -> Iterator[tuple[System, str]]:
    """The empty cloud with the bucket of a stack, and its name."""
    s3 = aws("s3")
    account = aws("sts").get_caller_identity()["Account"]
    bucket = f"leeward-{STACK}-{account}-{cloud.endpoint['region']}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": cloud.endpoint["region"]})
    before = len(cloud.runs)
    yield cloud, bucket
    del cloud.runs[before:]
    found = s3.list_object_versions(Bucket=bucket)
    for each in [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]:
        s3.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
    s3.delete_bucket(Bucket=bucket)


def test_an_expired_stack_is_warned_of_then_removed_and_one_without_an_end_is_not_touched(brief: tuple[System, str], aws: Any) -> None:
    system, bucket = brief
    s3, ec2 = aws("s3"), aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.60.0.0/16")["Vpc"]["VpcId"]

    def tags() -> dict[str, str]:
        try:
            return {each["Key"]: each["Value"] for each in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
        except s3.exceptions.ClientError:
            return {}

    def end(at: str) -> None:
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "leeward:expires-at", "Value": at}]})

    assert system.run("reap/main").state == "COMPLETED"
    assert tags() == {}, "it has no end"
    end("2100-01-01T00:00:00+00:00")
    assert system.run("reap/main").state == "COMPLETED"
    assert set(tags()) == {"leeward:expires-at"}, "its end is far away"
    end("2020-01-01T00:00:00+00:00")
    warned = system.run("reap/main")
    assert "brief ends by itself" in warned.log
    assert set(tags()) == {"leeward:expires-at", "leeward:warned-at"}, "warned of, and still there"
    assert system.run("reap/main", warning_min=0).state == "COMPLETED"
    assert tags() == {}
    assert vpc in {each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"]}, "what belongs to others stays"
    ec2.delete_vpc(VpcId=vpc)
