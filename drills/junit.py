"""The verdict for a CI system: one JUnit test case an SLO."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from drills.evidence import Evidence

__all__ = ["xml"]


def xml(evidence: Evidence) -> str:
    """JUnit XML. A missed SLO is a failure, one in doubt an error; an aborted or void drill is one error."""
    judged = evidence.verdict in ("passed", "failed")
    slos = evidence.slos if judged else ()
    standings = [slo.standing for slo in slos]
    suite = Element(
        "testsuite",
        name=f"drill {evidence.drill}",
        tests=str(len(slos) if judged else 1),
        failures=str(standings.count("missed")),
        errors=str(standings.count("in doubt") if judged else 1),
        timestamp=evidence.started,
        time=f"{evidence.window.end - evidence.window.start:.3f}",
    )
    for slo in slos:
        case = SubElement(suite, "testcase", classname=f"drill.{evidence.drill}", name=slo.name, time="0")
        if slo.standing == "missed":
            SubElement(case, "failure", message=f"{slo.actual}; promised: {slo.target}").text = "\n".join(evidence.why)
        elif slo.standing == "in doubt":
            SubElement(case, "error", message=f"{slo.actual}; promised: {slo.target}; in doubt: {slo.doubted}")
    if not judged:
        case = SubElement(suite, "testcase", classname=f"drill.{evidence.drill}", name="a verdict was reached", time="0")
        SubElement(case, "error", message=f"{evidence.verdict}: {evidence.headline}").text = "\n".join(evidence.why)
    indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{_legal(tostring(suite, encoding="unicode"))}\n'


def _legal(text: str) -> str:
    """Without the control characters that XML 1.0 forbids, which a log line in an event may hold."""
    return "".join(c for c in text if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff"))
