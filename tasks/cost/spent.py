"""What a stack has cost since it was made and costs now, from what AWS lists of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError
from prefect import get_run_logger

from tasks.aws.account import Clients
from tasks.aws.leftovers import instances, pages, stack_tags
from tasks.cost import prices
from tasks.cost.prices import Cost, price, times, total, unpriced, volume
from tasks.support.site import Site
from tasks.support.step import step

ENDED = "ended "
"""Beginning of the description of what costs nothing any more."""
_ENDED = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ")


def costs(session: Clients, name: str, now: datetime) -> list[Cost]:
    """What exists of the stack with its price and age. Instances that ended are listed by AWS for about an hour more, with no price now."""
    region = session.client("sts").meta.region_name
    return [
        *_cluster(session.client("eks"), name, region, now),
        *_ec2(session.client("ec2"), name, region, now),
        *_redis(session.client("elasticache"), name, region, now),
    ]


def spent(found: list[Cost]) -> float:
    """Dollars that all of it has cost so far."""
    return sum((cost.usd_per_hour or 0) * cost.hours for cost in found)


def running(found: list[Cost]) -> list[Cost]:
    """The costs that go on: of everything but what has ended."""
    return [cost for cost in found if not cost.what.startswith(ENDED)]


def _hours(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds() / 3600) if since else 0.0


def _cluster(eks: Any, name: str, region: str, now: datetime) -> Iterator[Cost]:
    try:
        found = eks.describe_cluster(name=name)["cluster"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return
    yield Cost(f"EKS cluster {name}", price(region, "eks_cluster"), _hours(found.get("createdAt"), now))


def _ec2(ec2: Any, name: str, region: str, now: datetime) -> Iterator[Cost]:
    own, seen = stack_tags(name), set()
    for tag, value in sorted(own):
        wanted = [{"Name": f"tag:{tag}", "Values": [value]}]
        for instance in instances(ec2, wanted):
            if instance["InstanceId"] not in seen:
                seen.add(instance["InstanceId"])
                yield _instance(instance, region, now)
        for gateway in pages(ec2, "describe_nat_gateways", "NatGateways", Filter=wanted):
            if gateway["State"] in ("pending", "available") and gateway["NatGatewayId"] not in seen:
                seen.add(gateway["NatGatewayId"])
                gateway_alone, address = price(region, "nat_gateway"), price(region, "public_address")
                both = None if gateway_alone is None or address is None else gateway_alone + address
                yield Cost(f"NAT gateway {gateway['NatGatewayId']} with its address", both, _hours(gateway.get("CreateTime"), now))
        for disk in pages(ec2, "describe_volumes", "Volumes", Filters=wanted):
            if disk["VolumeId"] not in seen:
                seen.add(disk["VolumeId"])
                yield Cost(f"volume {disk['VolumeId']}", volume(region, disk["Size"]), _hours(disk.get("CreateTime"), now))


def _instance(instance: Any, region: str, now: datetime) -> Cost:
    kind, until, words = instance["InstanceType"], now, f"instance {instance['InstanceId']} {instance['InstanceType']}"
    if instance["State"]["Name"] in ("terminated", "shutting-down", "stopped"):
        words = f"{ENDED}{words}"
        ended = _ENDED.search(instance.get("StateTransitionReason", ""))
        until = datetime.fromisoformat(f"{ended[1]}+00:00") if ended else instance["LaunchTime"]
    return Cost(words, price(region, "instances", kind), _hours(instance["LaunchTime"], until))


def _redis(elasticache: Any, name: str, region: str, now: datetime) -> Iterator[Cost]:
    for group in pages(elasticache, "describe_replication_groups", "ReplicationGroups"):
        if group["ReplicationGroupId"] == f"leeward-{name}-gcs":
            members, kind = len(group.get("MemberClusters", ())), group.get("CacheNodeType", "")
            hourly = times(members, price(region, "cache_nodes", kind))
            yield Cost(f"{members} Redis nodes {kind}", hourly, _hours(group.get("ReplicationGroupCreateTime"), now))


def described(name: str, found: list[Cost]) -> str:
    """One sentence: what was spent, and what is left costs."""
    left = running(found)
    if not found:
        return f"nothing of {name} is left that costs by the hour"
    odd = f" Without a price: {', '.join(sorted(set(unpriced(found)))[:5])}." if unpriced(found) else ""
    return (
        f"{name} has cost ${spent(found):.2f} since it was made, and costs ${total(left):.2f} an hour as long as it exists, at AWS's "
        f"prices of {prices.date()}. Not counted: {prices.NOT_IN_THE_SUM}, and nodes that ended more than an hour ago.{odd}"
    )


@step("show cost", deadline_s=120, retries=0)
def show_spent(site: Site) -> str:
    """Log what the stack has cost and costs now. Never fails a run: a question that AWS does not answer is logged."""
    try:
        text = described(site.infrastructure.name, costs(site.block.session(), site.infrastructure.name, datetime.now(UTC)))
    except Exception as error:
        text = f"what it costs could not be asked: {' '.join(str(error).split())[:300]}"
    get_run_logger().info("%s", text)
    return text
