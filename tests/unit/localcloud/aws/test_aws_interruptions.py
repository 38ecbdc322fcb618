"""Events about instances that change state or are interrupted: EventBridge sends them to SQS, where a request may wait for them."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import Any

import pytest
from embedded_aws import EmbeddedAws, eventually

from localcloud import settings
from localcloud.aws.ec2 import interruptions

STATE, SPOT = "EC2 Instance State-change Notification", "EC2 Spot Instance Interruption Warning"


class Queue:
    """A queue to which a rule sends events of this type."""

    def __init__(self, aws: EmbeddedAws, detail_type: str, source: str = "aws.ec2") -> None:
        self.sqs, events = aws.client("sqs"), aws.client("events")
        self.sqs.create_queue(QueueName="warnings")
        self.url = self.sqs.get_queue_url(QueueName="warnings")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name="warnings", EventPattern=json.dumps({"source": [source], "detail-type": [detail_type]}))
        events.put_targets(Rule="warnings", Targets=[{"Id": "queue", "Arn": arn}])

    def receive(self, wait_s: int = 0) -> list[dict[str, Any]]:
        """Receive and delete the events in the queue."""
        found = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s).get("Messages", [])
        for message in found:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]

    def states(self) -> list[str]:
        """Receive and delete the events in the queue; return their states."""
        return [event["detail"]["state"] for event in self.receive()]


def launch(aws: EmbeddedAws) -> str:
    arguments = {"ImageId": "ami-12345678", "InstanceType": "inf2.8xlarge", "MinCount": 1, "MaxCount": 1}
    return str(aws.client("ec2").run_instances(SubnetId=aws.subnets()[0], **arguments)["Instances"][0]["InstanceId"])


def interrupt(aws: EmbeddedAws, instance_id: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{aws.endpoint.url}/localcloud/interruptions/{instance_id}", method="PUT")
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def state(aws: EmbeddedAws, instance_id: str) -> str:
    found = aws.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    return str(found["State"]["Name"])


def test_every_state_of_an_instance_arrives_once_and_in_order(aws: EmbeddedAws) -> None:
    queue, ec2 = Queue(aws, STATE), aws.client("ec2")
    instance_id = launch(aws)
    assert queue.states() == ["pending", "running"]
    for _ in range(2):
        ec2.stop_instances(InstanceIds=[instance_id])
    assert queue.states() == ["stopping", "stopped"]
    for _ in range(2):
        ec2.start_instances(InstanceIds=[instance_id])
    assert queue.states() == ["pending", "running"]
    for _ in range(2):
        ec2.terminate_instances(InstanceIds=[instance_id])
    assert queue.states() == ["shutting-down", "terminated"]


def test_an_event_has_the_form_of_ec2s_events(aws: EmbeddedAws) -> None:
    queue = Queue(aws, STATE)
    instance_id = launch(aws)
    event = queue.receive()[0]
    assert time.strptime(event.pop("time"), "%Y-%m-%dT%H:%M:%SZ")
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": STATE,
        "source": "aws.ec2",
        "account": settings.ACCOUNT,
        "region": settings.REGION,
        "resources": [f"arn:aws:ec2:{settings.REGION}:{settings.ACCOUNT}:instance/{instance_id}"],
        "detail": {"instance-id": instance_id, "state": "pending"},
    }


def test_a_nodes_instance_is_shutting_down_until_its_node_is_gone(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup(size=1)
    queue = Queue(aws, STATE)
    (node,) = aws.machine.nodes
    aws.client("ec2").terminate_instances(InstanceIds=[node])
    eventually(lambda: aws.machine.nodes, lambda nodes: nodes and node not in nodes)
    events = [(event["detail"]["instance-id"] == node, event["detail"]["state"]) for event in queue.receive()]
    assert events == [(True, "shutting-down"), (True, "terminated"), (False, "pending"), (False, "running")]


@pytest.mark.parametrize(("detail_type", "source"), [(SPOT, "aws.ec2"), (STATE, "aws.health")])
def test_events_that_do_not_match_the_rule_do_not_arrive(aws: EmbeddedAws, detail_type: str, source: str) -> None:
    queue = Queue(aws, detail_type, source)
    launch(aws)
    assert queue.receive() == []


def test_instances_launch_although_a_rule_is_disabled_or_its_queue_is_gone(aws: EmbeddedAws) -> None:
    queue = Queue(aws, STATE)
    aws.client("events").disable_rule(Name="warnings")
    launch(aws)
    assert queue.receive() == []
    aws.client("events").enable_rule(Name="warnings")
    aws.client("sqs").delete_queue(QueueUrl=queue.url)
    assert state(aws, launch(aws)) == "running"


@pytest.fixture
def notice_over(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The event whose setting ends the two minutes of notice."""
    over = threading.Event()
    monkeypatch.setattr(interruptions, "time", SimpleNamespace(sleep=lambda seconds: over.wait(60)))
    return over


def test_an_interrupted_instance_is_terminated_after_the_warning(aws: EmbeddedAws, notice_over: threading.Event) -> None:
    queue, instance_id = Queue(aws, SPOT), launch(aws)
    assert interrupt(aws, instance_id) == {"instance": instance_id, "ends_in_s": 120.0}
    (event,) = queue.receive()
    assert event["detail"] == {"instance-id": instance_id, "instance-action": "terminate"}
    assert state(aws, instance_id) == "running"
    notice_over.set()
    eventually(lambda: state(aws, instance_id), lambda now: now == "terminated")


def test_an_instance_terminated_after_the_warning_is_not_terminated_again(aws: EmbeddedAws, notice_over: threading.Event) -> None:
    queue, instance_id = Queue(aws, STATE), launch(aws)
    interrupt(aws, instance_id)
    aws.client("ec2").terminate_instances(InstanceIds=[instance_id])
    notice_over.set()
    eventually(lambda: [thread.name for thread in threading.enumerate()], lambda names: f"interrupt {instance_id}" not in names)
    assert queue.states() == ["pending", "running", "shutting-down", "terminated"]


def test_only_a_running_instance_can_be_interrupted(aws: EmbeddedAws) -> None:
    instance_id = launch(aws)
    aws.client("ec2").terminate_instances(InstanceIds=[instance_id])
    for wrong in (instance_id, "i-0123456789abcdef0"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            interrupt(aws, wrong)
        assert caught.value.code == 404
        assert wrong in json.load(caught.value)["error"]


def test_a_request_that_waits_for_a_message_blocks_no_other_and_gets_it_at_once(aws: EmbeddedAws) -> None:
    queue, received = Queue(aws, STATE), list[dict[str, Any]]()
    waiting = threading.Thread(target=lambda: received.extend(queue.receive(wait_s=20)))
    waiting.start()
    time.sleep(0.3)  # until it waits
    aws.client("ec2").describe_instances()
    assert waiting.is_alive()
    launch(aws)
    waiting.join(60)
    assert not waiting.is_alive()
    assert received[0]["detail"]["state"] == "pending"


def test_a_request_for_a_message_that_does_not_come_waits_as_long_as_requested(aws: EmbeddedAws) -> None:
    queue, began = Queue(aws, STATE), time.monotonic()
    assert queue.receive(wait_s=1) == []
    assert time.monotonic() - began > 0.9


def test_a_spot_instance_is_described_as_one_has_prices_and_leaves_nothing_behind(aws: EmbeddedAws) -> None:
    ec2, (first, second) = aws.client("ec2"), aws.subnets()
    data = {"ImageId": "ami-12345678", "InstanceType": "m6i.large"}
    template = ec2.create_launch_template(LaunchTemplateName="any", LaunchTemplateData=data)["LaunchTemplate"]["LaunchTemplateId"]
    made = ec2.create_fleet(
        Type="instant",
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "$Latest"},
                "Overrides": [{"InstanceType": "inf2.8xlarge", "SubnetId": subnet} for subnet in (first, second)],
            }
        ],
        SpotOptions={"AllocationStrategy": "price-capacity-optimized"},
        TargetCapacitySpecification={"DefaultTargetCapacityType": "spot", "TotalTargetCapacity": 1},
    )
    (instance,) = aws.instances()
    assert made["Instances"][0]["Lifecycle"] == "spot"
    assert instance["InstanceLifecycle"] == "spot"
    prices = ec2.describe_spot_price_history(InstanceTypes=["inf2.8xlarge"], ProductDescriptions=["Linux/UNIX"])["SpotPriceHistory"]
    assert instance["Placement"]["AvailabilityZone"] in {price["AvailabilityZone"] for price in prices}
    assert {price["InstanceType"] for price in prices} == {"inf2.8xlarge"}
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    ec2.delete_launch_template(LaunchTemplateId=template)
    assert not {"fleets", "spot_instance_requests", "reservations"} & set(aws.get("leftovers")[f"ec2/{settings.REGION}"])
