"""EC2 without capacity for a type in a zone."""

from __future__ import annotations

import urllib.request
from collections.abc import Sequence
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws

from localcloud import settings
from localcloud.aws.ec2 import shortages

ONE, TWO = settings.AVAILABILITY_ZONES[:2]
SMALL, LARGE = "inf2.8xlarge", "inf2.24xlarge"


def set_shortage(aws: EmbeddedAws, method: str, instance_type: str, zone: str) -> None:
    request = urllib.request.Request(f"{aws.endpoint.url}/localcloud/shortages/{instance_type}/{zone}", method=method)
    urllib.request.urlopen(request, timeout=10).close()


def fleet(aws: EmbeddedAws, wanted: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Launch one instance by CreateFleet, of any of these types in the subnets of these zones."""
    ec2 = aws.client("ec2")
    zones = dict(zip((ONE, TWO), aws.subnets(), strict=True))
    template = ec2.create_launch_template(LaunchTemplateName="any", LaunchTemplateData={"ImageId": "ami-12345678"})["LaunchTemplate"]
    made: dict[str, Any] = ec2.create_fleet(
        Type="instant",
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": {"LaunchTemplateId": template["LaunchTemplateId"], "Version": "$Latest"},
                "Overrides": [{"InstanceType": instance_type, "SubnetId": zones[zone]} for instance_type, zone in wanted],
            }
        ],
        TargetCapacitySpecification={"DefaultTargetCapacityType": "on-demand", "TotalTargetCapacity": 1},
    )
    return made


def test_shortages_begin_and_end_by_http(aws: EmbeddedAws) -> None:
    set_shortage(aws, "PUT", SMALL, ONE)
    assert aws.get("shortages") == [{"instance_type": SMALL, "zone": ONE}]
    set_shortage(aws, "DELETE", SMALL, ONE)
    assert aws.get("shortages") == []


def test_run_instances_fails_in_a_zone_without_capacity_and_launches_nothing(aws: EmbeddedAws) -> None:
    ec2, (first, second) = aws.client("ec2"), aws.subnets()
    shortages.begin(SMALL, ONE)
    arguments = {"ImageId": "ami-12345678", "InstanceType": SMALL, "MinCount": 1, "MaxCount": 1}
    with pytest.raises(ClientError, match=f"{SMALL} in {ONE}") as caught:
        ec2.run_instances(SubnetId=first, **arguments)
    assert caught.value.response["Error"]["Code"] == shortages.CODE
    assert aws.instances() == []
    ec2.run_instances(SubnetId=second, **arguments)
    assert len(aws.instances()) == 1


def test_a_shortage_applies_however_the_request_gives_type_and_zone(aws: EmbeddedAws) -> None:
    ec2, (first, _) = aws.client("ec2"), aws.subnets()
    ec2.create_launch_template(LaunchTemplateName="small", LaunchTemplateData={"InstanceType": SMALL})
    shortages.begin(SMALL, ONE)
    small, template = {"InstanceType": SMALL}, {"LaunchTemplate": {"LaunchTemplateName": "small"}}
    interface = {"DeviceIndex": 0, "SubnetId": first}
    for wanted in (
        small,  # without a zone it is the first
        small | {"Placement": {"AvailabilityZone": ONE}},
        small | {"NetworkInterfaces": [interface]},
        template | {"SubnetId": first},
    ):
        with pytest.raises(ClientError, match=f"{SMALL} in {ONE}"):
            ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, **wanted)
    assert aws.instances() == []
    for wanted in (small | {"Placement": {"AvailabilityZone": TWO}}, template | {"SubnetId": first, "InstanceType": LARGE}):
        ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, **wanted)
    assert sorted(each["InstanceType"] for each in aws.instances()) == [LARGE, SMALL]


@pytest.mark.parametrize(
    ("short", "expected"),
    [([], (SMALL, ONE)), ([(SMALL, ONE)], (SMALL, TWO)), ([(SMALL, ONE), (SMALL, TWO)], (LARGE, ONE))],
)
@pytest.mark.parametrize("wanted", [[(SMALL, ONE), (SMALL, TWO), (LARGE, ONE)], [(LARGE, ONE), (SMALL, ONE), (SMALL, TWO)]])
def test_a_fleet_launches_the_cheapest_available_type_in_any_order_and_reports_the_others(
    aws: EmbeddedAws, wanted: list[tuple[str, str]], short: list[tuple[str, str]], expected: tuple[str, str]
) -> None:
    for one in short:
        shortages.begin(*one)
    made = fleet(aws, wanted)
    (instance,) = aws.instances()
    assert (instance["InstanceType"], instance["Placement"]["AvailabilityZone"]) == expected
    assert made["Instances"][0]["InstanceIds"] == [instance["InstanceId"]]
    tried = [error["LaunchTemplateAndOverrides"]["Overrides"] for error in made["Errors"]]
    assert [(one["InstanceType"], one["AvailabilityZone"]) for one in tried] == short
    assert {error["ErrorCode"] for error in made["Errors"]} <= {shortages.CODE}


def test_a_fleet_without_any_capacity_launches_nothing_and_reports_it(aws: EmbeddedAws) -> None:
    shortages.begin(SMALL, ONE)
    made = fleet(aws, [(SMALL, ONE)])
    assert (made["Instances"], len(made["Errors"])) == ([], 1)
    assert aws.instances() == []


def test_a_managed_group_tries_another_zone_and_then_its_next_type(aws: EmbeddedAws) -> None:
    aws.cluster()
    shortages.begin(SMALL, ONE)
    assert aws.nodegroup("one", instanceTypes=[SMALL, LARGE])["status"] == "ACTIVE"
    assert {node.zone for node in aws.machine.nodes.values()} == {TWO}
    shortages.begin(SMALL, TWO)
    assert aws.nodegroup("two", size=1, instanceTypes=[SMALL, LARGE])["status"] == "ACTIVE"
    assert sorted(node.instance_type for node in aws.machine.nodes.values()) == [LARGE, SMALL, SMALL]


def test_a_managed_group_without_any_capacity_reports_what_was_tried(aws: EmbeddedAws) -> None:
    aws.cluster()
    for zone in (ONE, TWO):
        shortages.begin(SMALL, zone)
    group = aws.nodegroup(size=1)
    assert group["status"] == "CREATE_FAILED"
    (problem,) = group["health"]["issues"]
    assert problem["code"] == "AsgInstanceLaunchFailures"
    assert shortages.CODE in problem["message"]
    assert all(f"{SMALL} in {zone}" in problem["message"] for zone in (ONE, TWO))
    assert aws.instances() == []
