"""Prices are those of the table: before a stack is made, while it runs, and above a limit it is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from embedded_aws import EmbeddedAws

from blocks.parameters import CoreNodes, Inf2Nodes, Infrastructure, Service
from tasks.cost import prices
from tasks.cost.estimate import check_cost, dearest, described, estimate
from tasks.cost.prices import Cost, total, unpriced
from tasks.cost.spent import costs, running, spent
from tasks.cost.spent import described as spent_described

HERE = "us-west-2"


def by_name(found: list[Cost]) -> dict[str, float | None]:
    return {cost.what: cost.usd_per_hour for cost in found}


def test_the_defaults_cost_what_their_parts_cost() -> None:
    found = by_name(estimate(Infrastructure(), HERE))
    assert found["2 inf2 nodes inf2.8xlarge"] == pytest.approx(2 * 1.96786)
    assert found["2 core nodes m6i.xlarge"] == pytest.approx(2 * 0.192)
    assert found["2 Redis nodes cache.t4g.small"] == pytest.approx(2 * 0.032)
    assert found["gp3 volumes of the nodes"] == pytest.approx((2 * 50 + 2 * 200) * 0.08 / 730)
    assert total(estimate(Infrastructure(), HERE)) == pytest.approx(4.59, abs=0.02)
    assert "2 Redis nodes cache.t4g.small" not in by_name(estimate(Infrastructure(enable_gcs_ha=False), HERE))


def test_the_fallback_type_is_the_dearest() -> None:
    assert total(dearest(Infrastructure(), HERE)) == pytest.approx(13.63, abs=0.03)


@pytest.mark.parametrize(
    ("most", "region", "result"),
    [(None, HERE, "ok"), (14, HERE, "ok"), (13, HERE, "bad"), (None, "eu-west-1", "not checked"), (100, "eu-west-1", "bad")],
)
def test_a_stack_above_its_limit_or_without_a_price_for_it_is_refused(most: float | None, region: str, result: str) -> None:
    assert check_cost(Infrastructure(max_usd_per_hour=most), region).result == result


def test_what_has_no_price_is_named() -> None:
    odd = Infrastructure(core_nodes=CoreNodes(instance_type="q9.large"))
    assert unpriced(estimate(odd, HERE)) == ["2 core nodes q9.large"]
    assert "Without a price: 2 core nodes q9.large" in described(odd, HERE, Service(), "cpu")


def test_the_estimate_shows_hour_lifecycle_alternatives_and_the_date_of_its_prices() -> None:
    text = described(Infrastructure(), HERE, Service(), "neuron")
    assert text.startswith("## leeward: $4.59 an hour")
    for words in ("| with inf2.24xlarge instead | 13.6", "| while a new image takes over |", "at most 4.0 h", prices.date(), "NAT gateway"):
        assert words in text


def test_every_inf2_type_of_the_form_has_a_price_in_the_table() -> None:
    for kind in ("inf2.xlarge", "inf2.8xlarge", "inf2.24xlarge", "inf2.48xlarge"):
        assert prices.price(HERE, "instances", kind)
    assert unpriced(estimate(Infrastructure(inf2_nodes=Inf2Nodes(instance_type="inf2.48xlarge")), HERE)) == []


def test_what_a_stack_has_cost_is_its_price_times_its_age(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    tags = [{"ResourceType": kind, "Tags": [{"Key": "leeward:name", "Value": "demo"}]} for kind in ("instance",)]
    made = ec2.run_instances(ImageId="ami-12345678", InstanceType="m6i.xlarge", MinCount=2, MaxCount=2, TagSpecifications=tags)["Instances"]
    ec2.run_instances(ImageId="ami-12345678", InstanceType="m6i.xlarge", MinCount=1, MaxCount=1)
    aws.cluster()
    in_two_hours = datetime.now(UTC) + timedelta(hours=2)
    found = costs(aws, "demo", in_two_hours)
    assert sorted(cost.what.split()[0] for cost in found) == ["EKS", "instance", "instance"]
    assert spent(found) == pytest.approx(2 * (0.10 + 2 * 0.192), rel=0.05)
    ec2.terminate_instances(InstanceIds=[made[0]["InstanceId"]])
    left = costs(aws, "demo", in_two_hours)
    assert len(running(left)) == 2
    assert spent(left) == pytest.approx(2 * (0.10 + 0.192), rel=0.05), "an ended instance costs until its end alone"
    assert "$0.29 an hour" in spent_described("demo", left)
    assert "nothing of other is left" in spent_described("other", costs(aws, "other", in_two_hours))
