"""A stack that was given an end is found by its bucket's tag and removed; a later end, or none, leaves it alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from system_under_test import System

EXPIRED, LATER, ENDLESS = "expired", "later", "endless"
"""Stacks: one whose end is past, one whose end is far away, and one without an end."""
ENDS = {EXPIRED: "2020-01-01T00:00:00+00:00", LATER: "2100-01-01T00:00:00+00:00"}


@pytest.fixture
def buckets(cloud: System, aws: Any) -> Iterator[dict[str, str]]:
    """The empty cloud with the buckets of the three stacks, by the stacks' names."""
    s3 = aws("s3")
    account, region = aws("sts").get_caller_identity()["Account"], cloud.endpoint["region"]
    found = {stack: f"leeward-{stack}-{account}-{region}" for stack in (EXPIRED, LATER, ENDLESS)}
    for stack, bucket in found.items():
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
        if stack in ENDS:
            s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "leeward:expires-at", "Value": ENDS[stack]}]})
    api, before = cloud.services.api, len(cloud.runs)
    reap = api.get("/deployments/name/reap/main")["id"]
    api.post(f"/deployments/{reap}/pause_deployment", {})  # or the hourly run might come between
    yield found
    api.post(f"/deployments/{reap}/resume_deployment", {})
    del cloud.runs[before:]
    for bucket in found.values():
        versions = s3.list_object_versions(Bucket=bucket)
        for each in [*versions.get("Versions", ()), *versions.get("DeleteMarkers", ())]:
            s3.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
        s3.delete_bucket(Bucket=bucket)


def test_an_expired_stack_is_warned_of_then_removed_and_others_are_not_touched(cloud: System, buckets: dict[str, str], aws: Any) -> None:
    s3, ec2 = aws("s3"), aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.60.0.0/16")["Vpc"]["VpcId"]

    def tags(stack: str) -> set[str]:
        try:
            return {each["Key"] for each in s3.get_bucket_tagging(Bucket=buckets[stack])["TagSet"]}
        except s3.exceptions.ClientError:
            return set()

    warned = cloud.run("reap/main")
    assert warned.state == "COMPLETED"
    assert f"{EXPIRED} ends by itself" in warned.log
    assert tags(EXPIRED) == {"leeward:expires-at", "leeward:warned-at"}, "warned of, and still there"
    assert cloud.run("reap/main", warning_min=0).state == "COMPLETED"
    assert [tags(stack) for stack in (EXPIRED, LATER, ENDLESS)] == [set(), {"leeward:expires-at"}, set()]
    assert vpc in {each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"]}, "what belongs to others stays"
    ec2.delete_vpc(VpcId=vpc)
