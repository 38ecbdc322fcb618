"""A stack's end is a tag of its bucket: found without any other state, warned of before, and gone with the stack."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from embedded_aws import EmbeddedAws

from tasks.aws.account import state_bucket
from tasks.aws.expiry import EXPIRES, Expiry, expiries, set_expiry, set_warned

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
_numbers = itertools.count()


def ours(aws: EmbeddedAws, *names: str) -> list[Expiry]:
    return [each for each in expiries(aws) if each.name in names]


def test_the_end_of_a_stack_is_found_by_the_tag_of_its_bucket_alone(aws: EmbeddedAws) -> None:
    one, two = (f"ends{next(_numbers)}" for _ in range(2))
    set_expiry(aws, one, NOW)
    set_expiry(aws, two, None)
    aws.client("s3").create_bucket(Bucket="leeward-like", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    assert ours(aws, one, two) == [Expiry(one, NOW)]
    set_warned(aws, one, NOW + HOUR)
    assert ours(aws, one) == [Expiry(one, NOW, NOW + HOUR)]
    set_expiry(aws, one, NOW + 5 * HOUR)
    assert ours(aws, one) == [Expiry(one, NOW + 5 * HOUR)], "a new end needs a new warning"
    set_expiry(aws, one, None)
    assert ours(aws, one) == []


def test_other_tags_of_the_bucket_stay(aws: EmbeddedAws) -> None:
    name, s3 = f"ends{next(_numbers)}", aws.client("s3")
    set_expiry(aws, name, NOW)
    bucket = state_bucket(aws, name)
    kept = {"Key": "team", "Value": "red"}
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [kept, {"Key": EXPIRES, "Value": NOW.isoformat()}]})
    set_expiry(aws, name, None)
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [kept]


@pytest.mark.parametrize(
    ("ends_in", "warned_before", "soon", "due"),
    [
        (2 * HOUR, None, False, False),
        (HOUR, None, True, False),
        (-HOUR, None, True, False),  # no run in time: warned now, removed later
        (-HOUR, HOUR / 2, False, False),
        (-HOUR, HOUR, False, True),
        (HOUR, 2 * HOUR, False, False),
    ],
)
def test_a_stack_is_removed_after_its_end_and_an_hour_after_its_warning(
    ends_in: timedelta, warned_before: timedelta | None, soon: bool, due: bool
) -> None:
    stack = Expiry("x", NOW + ends_in, NOW - warned_before if warned_before else None)
    assert (stack.soon(NOW, HOUR), stack.due(NOW, HOUR)) == (soon, due)


def test_without_a_warning_a_stack_is_removed_at_its_end() -> None:
    assert Expiry("x", NOW).due(NOW, timedelta())
    assert not Expiry("x", NOW).soon(NOW, timedelta())
