"""Policies decide by IAM's rules: matching, conditions, and the precedence of Deny."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.aws.authorization.policies import Decision, Question, decide

INSTANCE = "arn:aws:ec2:us-west-2:123456789012:instance/i-0"


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def answer(statement: dict[str, Any], action: str = "ec2:TerminateInstances", resource: str = INSTANCE, **context: Any) -> Decision:
    keys = {key.lower(): value if isinstance(value, tuple) else (value,) for key, value in context.items()}
    return decide([document(statement)], Question(action, resource, keys))


def holds(operator: str, key: str, wanted: Any, /, **context: Any) -> bool:
    """Whether a condition holds, as an Allow shows it."""
    found = answer(allow(Condition={operator: {key: wanted}}), **context)
    assert found in (Decision.ALLOWED, Decision.SILENT)
    return found is Decision.ALLOWED


def test_what_no_statement_allows_is_not_allowed() -> None:
    assert decide([], Question("s3:GetObject", "*")) is Decision.SILENT
    assert answer(allow("ec2:RunInstances")) is Decision.SILENT


def test_a_deny_wins_over_every_allow_in_whichever_document_it_is() -> None:
    documents = [document(allow()), document(deny("ec2:Terminate*")), document(allow("ec2:*"))]
    assert decide(documents, Question("ec2:TerminateInstances", INSTANCE)) is Decision.DENIED
    assert decide(documents, Question("ec2:RunInstances", INSTANCE)) is Decision.ALLOWED


def test_a_statement_may_stand_alone_without_a_list() -> None:
    assert decide([{"Statement": allow()}], Question("s3:GetObject", "*")) is Decision.ALLOWED


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*", True),
        ("ec2:*", True),
        ("EC2:terminateinstances", True),
        ("ec2:Terminate?nstances", True),
        (["s3:*", "ec2:TerminateInstances"], True),
        ("ec2:Terminate", False),
        ("s3:*", False),
        ("ec2.TerminateInstances", False),
    ],
)
def test_actions_match_with_wildcards_in_any_case(pattern: Any, matches: bool) -> None:
    assert (answer(allow(pattern)) is Decision.ALLOWED) == matches


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        ("*", "*", True),
        ("arn:aws:ec2:*:*:instance/*", INSTANCE, True),
        ("arn:aws:ec2:us-west-2:123456789012:instance/*", "arn:aws:ec2:us-west-2:123456789012:instance/*", True),
        ("arn:aws:ec2:*", INSTANCE, True),
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a/b:c", True),
        ("arn:aws:s3:::bucket", "arn:aws:s3:::bucket/a", False),
        ("arn:aws:s3:::Bucket/*", "arn:aws:s3:::bucket/a", False),
        ("arn:aws:ec2:*:instance/*", INSTANCE, False),
        ("arn:aws:ec2:us-east-1:*:instance/*", INSTANCE, False),
        ("arn:aws:ec2:*:*:instance/*", "*", False),
        (["arn:aws:s3:::a", INSTANCE], INSTANCE, True),
    ],
)
def test_resources_match_segment_by_segment(pattern: Any, resource: str, matches: bool) -> None:
    assert (answer(allow(resource=pattern), resource=resource) is Decision.ALLOWED) == matches


def test_the_negated_elements_match_everything_else() -> None:
    assert answer({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}) is Decision.ALLOWED
    assert answer({"Effect": "Allow", "NotAction": "ec2:*", "Resource": "*"}) is Decision.SILENT
    assert answer({"Effect": "Deny", "Action": "*", "NotResource": INSTANCE}) is Decision.SILENT
    assert answer({"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::*"}) is Decision.DENIED


def test_all_conditions_of_a_statement_must_hold_and_one_value_of_each() -> None:
    both = {"StringEquals": {"a": ["1", "2"]}, "StringLike": {"b": "x*"}}
    assert answer(allow(Condition=both), a="2", b="xyz") is Decision.ALLOWED
    assert answer(allow(Condition=both), a="2", b="abc") is Decision.SILENT
    assert answer(allow(Condition=both), a="2") is Decision.SILENT


def test_an_allow_with_a_failed_condition_denies_nothing() -> None:
    documents = [document(allow(Condition={"StringEquals": {"a": "1"}})), document(allow())]
    assert decide(documents, Question("s3:GetObject", "*")) is Decision.ALLOWED


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "expected"),
    [
        ("StringEquals", "a*", "ab", False),
        ("StringEqualsIgnoreCase", "AB", "ab", True),
        ("StringNotEquals", "ab", "ab", False),
        ("StringLike", "a*", "ab", True),
        ("StringNotLike", "a*", "ab", False),
        ("NumericLessThan", "10", "9", True),
        ("NumericGreaterThanEquals", "10", "9", False),
        ("DateGreaterThan", "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z", True),
        ("Bool", True, "true", True),
        ("Bool", "true", "false", False),
        ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
        ("NotIpAddress", ["10.0.0.0/8", "192.168.0.0/16"], "192.168.1.1", False),
        ("ArnLike", "arn:aws:iam::*:role/x", "arn:aws:iam::1:role/x", True),
        ("ArnNotEquals", "arn:aws:iam::1:role/x", "arn:aws:iam::1:role/x", False),
    ],
)
def test_operators_compare_as_on_aws(operator: str, wanted: Any, found: str, expected: bool) -> None:
    assert holds(operator, "key", wanted, key=found) == expected


def test_a_key_that_is_not_in_the_request_matches_only_what_says_so() -> None:
    assert not holds("StringEquals", "key", "a")
    assert holds("StringNotEquals", "key", "a")
    assert holds("StringEqualsIfExists", "key", "a")
    assert not holds("StringEqualsIfExists", "key", "a", key="b")
    assert holds("Null", "key", "true")
    assert not holds("Null", "key", "false")
    assert holds("Null", "key", "false", key="a")


def test_keys_with_several_values_are_compared_by_all_or_by_any() -> None:
    assert holds("ForAllValues:StringEquals", "aws:TagKeys", ["a", "b"], **{"aws:TagKeys": ("a", "b")})
    assert not holds("ForAllValues:StringEquals", "aws:TagKeys", ["a", "b"], **{"aws:TagKeys": ("a", "c")})
    assert holds("ForAnyValue:StringEquals", "aws:TagKeys", ["a"], **{"aws:TagKeys": ("c", "a")})
    assert holds("ForAllValues:StringEquals", "aws:TagKeys", ["a"])
    assert not holds("ForAnyValue:StringEquals", "aws:TagKeys", ["a"])


def test_variables_are_filled_in_and_an_unknown_one_matches_nothing() -> None:
    home = allow(resource="arn:aws:s3:::homes/${aws:username}/*")
    mine, others = "arn:aws:s3:::homes/ann/x", "arn:aws:s3:::homes/bob/x"
    assert answer(home, resource=mine, **{"aws:username": "ann"}) is Decision.ALLOWED
    assert answer(home, resource=others, **{"aws:username": "ann"}) is Decision.SILENT
    assert answer(home, resource=mine) is Decision.SILENT
    assert answer(home, resource=others, **{"aws:username": "*"}) is Decision.SILENT
    assert holds("StringEquals", "a", "${aws:username, 'none'}", a="none")
    assert holds("StringLike", "a", "${*}x*", a="*xy")
    assert not holds("StringLike", "a", "${*}x*", a="zxy")


@pytest.mark.parametrize("condition", [{"StringBegins": {"a": "1"}}, {"NumericEquals": {"a": "many"}}, {"IpAddress": {"a": "home"}}])
def test_a_condition_that_cannot_be_decided_allows_nothing_and_lets_nobody_escape_a_deny(condition: dict[str, Any]) -> None:
    assert answer(allow(Condition=condition), a="1") is Decision.SILENT
    assert answer(deny(Condition=condition), a="1") is Decision.DENIED


def test_a_trust_policy_names_callers_and_a_star_means_no_service() -> None:
    ann, pods = frozenset({("AWS", "ann"), ("AWS", "1234")}), frozenset({("Service", "pods.eks.amazonaws.com")})

    def trusted(principal: Any, callers: frozenset[tuple[str, str]]) -> bool:
        statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
        return decide([document(statement)], Question("sts:AssumeRole", "role", {}, callers)) is Decision.ALLOWED

    assert trusted({"AWS": ["bob", "ann"]}, ann)
    assert trusted({"AWS": "1234"}, ann)
    assert trusted("*", ann)
    assert trusted({"Service": "pods.eks.amazonaws.com"}, pods)
    assert not trusted({"AWS": "bob"}, ann)
    assert not trusted({"Service": "ann"}, ann)
    assert not trusted("*", pods)
