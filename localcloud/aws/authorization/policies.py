"""Policy documents decide about one action on one resource, by IAM's rules.

Nothing here knows where documents or requests come from. An explicit Deny wins, and what no statement allows is not allowed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any

Document = Mapping[str, Any]
Statement = Mapping[str, Any]


class Decision(Enum):
    """The answer of a set of documents."""

    ALLOWED = "allowed"
    DENIED = "explicitly denied"
    SILENT = "not allowed by any statement"


@dataclass(frozen=True)
class Question:
    """May this action be done to this resource? `resource` is an ARN, or "*" when the action has no resource."""

    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values of the condition keys, by the key in lower case. A key without a value is not in the request."""
    principals: frozenset[tuple[str, str]] = frozenset()
    """Kind and identifier by which a trust policy may name the caller, such as ("AWS", ARN)."""


def decide(documents: Iterable[Document], question: Question) -> Decision:
    """Decide by all statements of the documents."""
    allowed = False
    for document in documents:
        for statement in as_list(document.get("Statement", [])):
            if not _applies(statement, question):
                continue
            if statement.get("Effect") == "Deny":
                return Decision.DENIED
            allowed = allowed or statement.get("Effect") == "Allow"
    return Decision.ALLOWED if allowed else Decision.SILENT


def as_list(value: Any) -> list[Any]:
    """The elements of a list; any other value alone."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _applies(statement: Statement, question: Question) -> bool:
    return (
        _named(statement, "Principal", lambda named: _names_caller(named, question))
        and _named(statement, "Action", lambda named: _any_matches(named, question.action.lower(), str.lower))
        and _named(statement, "Resource", lambda named: any(_arn_matches(str(arn), question) for arn in as_list(named)))
        and _conditions_hold(statement, question.context)
    )


def _named(statement: Statement, element: str, matches: Callable[[Any], bool]) -> bool:
    """Whether the element or its negation (NotAction...) matches. One that is absent does: trust policies have no Resource."""
    if element in statement:
        return matches(statement[element])
    negation = f"Not{element}"
    return negation not in statement or not matches(statement[negation])


def _names_caller(named: Any, question: Question) -> bool:
    # A bare "*" means every AWS account, but no service.
    by_kind: Mapping[str, Any] = {"AWS": named} if isinstance(named, str) else named
    named_here = {(kind, one) for kind, ids in by_kind.items() for one in as_list(ids)}
    everyone = ("AWS", "*") in named_here and any(kind == "AWS" for kind, _ in question.principals)
    return everyone or bool(named_here & question.principals)


def _any_matches(patterns: Any, value: str, prepared: Callable[[str], str] = str) -> bool:
    return any(_wildcards(prepared(str(pattern))).fullmatch(value) is not None for pattern in as_list(patterns))


def _arn_matches(pattern: str, question: Question) -> bool:
    """Whether the pattern names the resource. As on AWS a wildcard does not reach across the colons in front of the resource part."""
    return _same_arn(pattern, question.resource, question.context)


def _same_arn(pattern: str, arn: str, context: Mapping[str, tuple[str, ...]]) -> bool:
    if pattern == "*":
        return True
    wanted, found = pattern.split(":", 5), arn.split(":", 5)
    if len(wanted) < 6 and wanted[-1].endswith("*"):
        wanted += ["*"] * (6 - len(wanted))
    return len(wanted) == len(found) and all(_like(part, value, context) for part, value in zip(wanted, found, strict=True))


_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def _like(pattern: str, value: str, context: Mapping[str, tuple[str, ...]], wildcards: bool = True) -> bool:
    """Whether the value matches, with policy variables such as ${aws:username} filled in. An unknown variable matches nothing."""
    literals: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(",")
        if name in ("*", "?", "$"):
            literals.append(name)
        else:
            found = context.get(name.strip().lower(), ())
            given = default.strip().strip("'") if default else None
            literals.append(found[0] if len(found) == 1 else given if given is not None else "\0")
        return f"\1{len(literals) - 1}\2"

    template = _VARIABLE.sub(fill, pattern)
    if not literals:
        return _wildcards(pattern).fullmatch(value) is not None if wildcards else pattern == value
    expression = _wildcards(template).pattern if wildcards else re.escape(template)
    for number, literal in enumerate(literals):
        expression = expression.replace(re.escape(f"\1{number}\2"), re.escape(literal))
    return re.fullmatch(expression, value, re.DOTALL) is not None


@lru_cache(maxsize=4096)
def _wildcards(pattern: str) -> re.Pattern[str]:
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.split(r"([*?])", pattern))
    return re.compile("".join(parts), re.DOTALL)


# Conditions -----------------------------------------------------------------------------------------

_Test = Callable[[str, str, Mapping[str, tuple[str, ...]]], bool]
"""Whether a value of the policy (first) matches one of the request."""


def _numbers(compare: Callable[[float, float], bool]) -> _Test:
    return lambda wanted, found, _: compare(float(found), float(wanted))


def _times(compare: Callable[[float, float], bool]) -> _Test:
    return lambda wanted, found, _: compare(_epoch(found), _epoch(wanted))


def _epoch(value: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", value) and len(value) > 4:
        return float(value)
    moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "equals": lambda a, b: a == b,
    "lessthan": lambda a, b: a < b,
    "lessthanequals": lambda a, b: a <= b,
    "greaterthan": lambda a, b: a > b,
    "greaterthanequals": lambda a, b: a >= b,
}
_TESTS: dict[str, _Test] = {
    "stringequals": lambda wanted, found, context: _like(wanted, found, context, wildcards=False),
    "stringequalsignorecase": lambda wanted, found, context: _like(wanted.lower(), found.lower(), context, wildcards=False),
    "stringlike": _like,
    "arnequals": _same_arn,
    "arnlike": _same_arn,
    "binaryequals": lambda wanted, found, _: wanted == found,
    "bool": lambda wanted, found, _: wanted.lower() == found.lower(),
    "ipaddress": lambda wanted, found, _: ipaddress.ip_address(found) in ipaddress.ip_network(wanted, strict=False),
    **{f"numeric{name}": _numbers(compare) for name, compare in _COMPARISONS.items()},
    **{f"date{name}": _times(compare) for name, compare in _COMPARISONS.items()},
}
_NEGATIONS = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
    "notipaddress": "ipaddress",
    "numericnotequals": "numericequals",
    "datenotequals": "dateequals",
}


def _conditions_hold(statement: Statement, context: Mapping[str, tuple[str, ...]]) -> bool:
    try:
        return all(
            _holds(operator, key, [_text(value) for value in as_list(values)], context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    except (KeyError, ValueError):
        # An unknown operator, or a value that is none of its kind: nothing is allowed by it, and a Deny is not escaped.
        return statement.get("Effect") == "Deny"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _holds(operator: str, key: str, wanted: list[str], context: Mapping[str, tuple[str, ...]]) -> bool:
    qualifier, _, name = operator.lower().rpartition(":")
    optional = name.endswith("ifexists")
    name = name.removesuffix("ifexists")
    found = context.get(key.lower(), ())
    if name == "null":
        return any((value.lower() == "true") == (not found) for value in wanted)
    negated = name in _NEGATIONS
    test = _TESTS[_NEGATIONS.get(name, name)]
    if not found:
        return optional or qualifier == "forallvalues" or (negated and not qualifier)
    each = (any(test(value, one, context) for value in wanted) != negated for one in found)
    return all(each) if qualifier == "forallvalues" else any(each)
