"""The verdict for a CI system: one JUnit test case for each SLO, or for each fault of a series."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from drills.evidence import Evidence
from drills.series import SeriesEvidence


def xml(evidence: Evidence) -> str:
    """Return the JUnit XML of a drill. A missed SLO is a failure, one in doubt an error; an aborted or void drill is one error."""
    judged = evidence.verdict in ("passed", "failed")
    suite = Element("testsuite", name=f"drill {evidence.drill}")
    for slo in evidence.slos if judged else ():
        case = SubElement(suite, "testcase", classname=f"drill.{evidence.drill}", name=slo.name, time="0")
        if slo.standing == "missed":
            SubElement(case, "failure", message=f"{slo.actual}; promised: {slo.target}").text = "\n".join(evidence.why)
        elif slo.standing == "in doubt":
            SubElement(case, "error", message=f"{slo.actual}; promised: {slo.target}; in doubt: {slo.doubted}")
    if not judged:
        case = SubElement(suite, "testcase", classname=f"drill.{evidence.drill}", name="a verdict was reached", time="0")
        SubElement(case, "error", message=f"{evidence.verdict}: {evidence.headline}").text = "\n".join(evidence.why)
    count(suite, tests="testcase", failures="failure", errors="error")
    suite.attrib |= {"timestamp": evidence.started, "time": f"{evidence.window.end - evidence.window.start:.3f}"}
    return to_text(suite)


def series_xml(series: SeriesEvidence) -> str:
    """Return the JUnit XML of a series: one case for each fault, and one for the series, which has its own doubts and its own end."""
    suite = Element("testsuite", name=f"series {series.drill}", timestamp=series.started)
    cases = [(f"fault {row.number}", row.verdict, row.headline, row.why) for row in series.faults]
    for name, verdict, headline, why in (*cases, ("the series", series.verdict, series.headline, series.why)):
        case = SubElement(suite, "testcase", classname=f"series.{series.drill}", name=name, time="0")
        if verdict != "passed":
            SubElement(case, "failure" if verdict == "failed" else "error", message=f"{verdict}: {headline}").text = "\n".join(why)
    count(suite, tests="testcase", failures="failure", errors="error")
    return to_text(suite)


def count(suite: Element, **tags: str) -> None:
    """Set attributes of the suite to the numbers of its elements with these tags."""
    for attribute, tag in tags.items():
        suite.set(attribute, str(sum(1 for _ in suite.iter(tag))))


def to_text(suite: Element) -> str:
    """Return the XML of a suite, without control characters."""
    indent(suite)
    # XML 1.0 forbids control characters, and a log line in an event may contain some.
    text = "".join(c for c in tostring(suite, encoding="unicode") if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff"))
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'
