"""The findings of lint as text, as JSON and as JUnit."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

from drills.lint.rules import RULES, Finding, Severity
from drills.report.junit import to_text

WIDTH = 110


def text(service: str, found: Sequence[Finding], unread: Sequence[str]) -> str:
    """Return the findings for a terminal, the worst first, and the sum in the last line."""
    lines = []
    for finding in found:
        rule = finding.rule
        lines.append(f"{rule.severity.upper():7} {rule.name}: {finding.found}")
        why = f"{rule.why} ({rule.learnt_from})"
        lines += textwrap.wrap(why, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
        lines += textwrap.wrap(f"remedy: {rule.remedy}", WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 16, break_long_words=False)
    lines += [f"not checked: this role may not read {what}" for what in unread]
    counts = [f"{sum(f.rule.severity == s for f in found)} {s}" for s in Severity if any(f.rule.severity == s for f in found)]
    lines.append(f"{service}: {len(found)} of {len(RULES)} rules broken{' (' + ', '.join(counts) + ')' if counts else ''}")
    return "\n".join(lines) + "\n"


def as_json(service: str, found: Sequence[Finding], unread: Sequence[str]) -> str:
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
        for finding in found
    ]
    return json.dumps({"service": service, "rules": len(RULES), "findings": rows, "not_checked": list(unread)}, indent=2) + "\n"


def junit(service: str, found: Sequence[Finding], strict: bool) -> str:
    """Return the rules as JUnit test cases. A broken rule that does not fail the command is passed, with its finding as output."""
    broken = {finding.rule.name: finding for finding in found}
    failures = sum(fails(finding, strict) for finding in found)
    suite = Element("testsuite", name=f"lint {service}", tests=str(len(RULES)), failures=str(failures), errors="0")
    for rule in RULES:
        case = SubElement(suite, "testcase", classname=f"lint.{rule.severity}", name=rule.name, time="0")
        if finding := broken.get(rule.name):
            words = f"{finding.found}; {rule.why} ({rule.learnt_from}); remedy: {rule.remedy}"
            if fails(finding, strict):
                SubElement(case, "failure", message=words)
            else:
                SubElement(case, "system-out").text = words
    return to_text(suite)


def fails(finding: Finding, strict: bool) -> bool:
    """Whether a finding fails the command: one that breaks the service always, any other only if strict."""
    return strict or finding.rule.severity == Severity.BREAKS
