"""The findings of lint as text, as JSON and as JUnit."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

from drills.lint.rules import RULES, Checked, Finding, Severity
from drills.report.junit import count, to_text

WIDTH = 110


def text(service: str, checked: Checked, unread: Sequence[str]) -> str:
    """Return the findings for a terminal, the worst first, and the sum in the last line."""
    lines = []
    for finding in checked.findings:
        rule = finding.rule
        lines.append(f"{rule.severity.upper():7} {rule.name}: {finding.found}")
        lines += textwrap.wrap(f"{rule.why} ({rule.learnt_from})", WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
        lines += textwrap.wrap(f"remedy: {rule.remedy}", WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 16, break_long_words=False)
    lines += [f"not checked: {name}: {why}" for name, why in checked.unchecked.items()]
    lines += [f"not read: {why}" for why in unread]
    severities = [finding.rule.severity for finding in checked.findings]
    counts = ", ".join(f"{severities.count(severity)} {severity}" for severity in Severity if severity in severities)
    done = f"{len(RULES) - len(checked.unchecked)} of {len(RULES)} rules checked, {len(severities)} broken"
    lines.append(f"{service}: {done}" + (f" ({counts})" if counts else ""))
    return "\n".join(lines) + "\n"


def as_json(service: str, checked: Checked, unread: Sequence[str]) -> str:
    """Return the findings as JSON."""
    rows = [
        {
            "rule": finding.rule.name,
            "severity": finding.rule.severity,
            "found": finding.found,
            "why": finding.rule.why,
            "learnt_from": finding.rule.learnt_from,
            "remedy": finding.rule.remedy,
        }
        for finding in checked.findings
    ]
    found = {"service": service, "rules": len(RULES), "findings": rows, "not_checked": checked.unchecked, "not_read": list(unread)}
    return json.dumps(found, indent=2) + "\n"


def junit(service: str, checked: Checked, strict: bool) -> str:
    """Return the rules as JUnit test cases: a failure fails the command, another finding is passed with an output, unchecked is skipped."""
    broken = {finding.rule.name: finding for finding in checked.findings}
    suite = Element("testsuite", name=f"lint {service}", errors="0")
    for rule in RULES:
        case = SubElement(suite, "testcase", classname=f"lint.{rule.severity}", name=rule.name, time="0")
        if why := checked.unchecked.get(rule.name):
            SubElement(case, "skipped", message=why)
        elif finding := broken.get(rule.name):
            words = f"{finding.found}; {rule.why} ({rule.learnt_from}); remedy: {rule.remedy}"
            if fails(finding, strict):
                SubElement(case, "failure", message=words)
            else:
                SubElement(case, "system-out").text = words
    count(suite, tests="testcase", failures="failure", skipped="skipped")
    return to_text(suite)


def fails(finding: Finding, strict: bool) -> bool:
    """Whether a finding fails the command: one that breaks the service always, any other only if strict."""
    return strict or finding.rule.severity == Severity.BREAKS
