"""Service quotas of the embedded cloud: they can be asked and set, and EC2 refuses what exceeds them."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws
from test_aws_shortages import fleet

from localcloud import settings
from localcloud.aws import quotas

SMALL = "inf2.8xlarge"


def set_quota(aws: EmbeddedAws, code: str, value: int) -> Any:
    request = urllib.request.Request(f"{aws.endpoint.url}/localcloud/quotas/{code}/{value}", method="PUT")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def asked(aws: EmbeddedAws, service: str, code: str) -> float:
    return float(aws.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"])


def test_quotas_are_answered_and_set_by_http(aws: EmbeddedAws) -> None:
    assert asked(aws, "vpc", "L-F678F1CE") == 5
    before = asked(aws, "ec2", quotas.INF)
    set_quota(aws, quotas.INF, 32)
    assert (before > 32, asked(aws, "ec2", quotas.INF)) == (True, 32)
    with pytest.raises(ClientError, match="NoSuchResourceException"):
        asked(aws, "ec2", "L-00000000")
    assert aws.get("leftovers") == {}


def test_a_launch_beyond_the_quota_of_its_family_is_refused_until_an_instance_ends(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    set_quota(aws, quotas.INF, 64)
    wanted = {"ImageId": "ami-12345678", "InstanceType": SMALL, "MinCount": 1}
    with pytest.raises(ClientError, match="limit of 64") as caught:
        ec2.run_instances(**wanted | {"MinCount": 3}, MaxCount=3)
    assert caught.value.response["Error"]["Code"] == quotas.CODE
    first, _ = ec2.run_instances(**wanted | {"MinCount": 2}, MaxCount=2)["Instances"]
    with pytest.raises(ClientError, match=quotas.CODE):
        ec2.run_instances(**wanted, MaxCount=1)
    ec2.run_instances(ImageId="ami-12345678", InstanceType="m6i.xlarge", MinCount=1, MaxCount=1)
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
    ec2.run_instances(**wanted, MaxCount=1)


def test_a_fleet_beyond_the_quota_launches_nothing_and_reports_it_as_aws_does(aws: EmbeddedAws) -> None:
    set_quota(aws, quotas.INF, 31)
    made = fleet(aws, [(SMALL, settings.AVAILABILITY_ZONES[0])])
    assert (made["Instances"], [error["ErrorCode"] for error in made["Errors"]]) == ([], [quotas.CODE])


def test_a_managed_group_beyond_the_quota_names_it(aws: EmbeddedAws) -> None:
    aws.cluster()
    set_quota(aws, quotas.INF, 31)
    group = aws.nodegroup(size=1)
    assert group["status"] == "CREATE_FAILED"
    assert quotas.CODE in group["health"]["issues"][0]["message"]
