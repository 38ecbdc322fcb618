"""The verdict for a CI system: one JUnit test case an SLO."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from drills.evidence import Evidence

__all__ = ["xml"]


def xml(evidence: Evidence) -> str:
    """JUnit XML. A missed SLO is a failure; an aborted or void drill is an error, whatever its SLOs say."""
    judged = evidence.verdict in ("passed", "failed")
    slos = evidence.slos if judged else ()
    failures = sum(not slo.passed for slo in slos)
    suite = Element(
        "testsuite",
        name=f"drill {evidence.drill}",
        tests=str(len(slos) if judged else 1),
        failures=str(failures),
        errors=str(int(not judged)),
        timestamp=evidence.started,
        time=f"{evidence.window.end - evidence.window.start:.3f}",
    )
    for slo in slos:
        case = SubElement(suite, "testcase", classname=f"drill.{evidence.drill}", name=slo.name, time="0")
        if not slo.passed:
            SubElement(case, "failure", message=f"{slo.actual}; promised: {slo.target}").text = "\n".join(evidence.why)
    if not judged:
        case = SubElement(suite, "testcase", classname=f"drill.{evidence.drill}", name="a verdict was reached", time="0")
        SubElement(case, "error", message=f"{evidence.verdict}: {evidence.headline}").text = "\n".join(evidence.why)
    indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{_legal(tostring(suite, encoding="unicode"))}\n'


def _legal(text: str) -> str:
    """Without the control characters that XML 1.0 forbids, which a log line in an event may hold."""
    return "".join(c for c in text if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff"))
