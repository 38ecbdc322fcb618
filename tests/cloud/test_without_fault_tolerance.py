"""The same drill without GCS fault tolerance: it fails, says why, and the run cleans up."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from system_under_test import Run


def test_a_lifecycle_without_fault_tolerance_ends_with_a_failed_verdict_and_not_with_an_error(unprotected: Run) -> None:
    assert unprotected.state == "FAILED"
    assert unprotected.snapshot.label == "VerdictFailed"
    assert unprotected.evidence["verdict"] == "failed"


def test_the_evidence_of_a_failed_drill_says_why(unprotected: Run) -> None:
    why = " ".join(unprotected.evidence["why"]).lower()
    assert "gcs" in why or "fault tolerance" in why
    assert [slo["name"] for slo in unprotected.evidence["slos"] if not slo["passed"]]


def test_without_fault_tolerance_requests_or_streams_are_lost_and_a_worker_is_restarted_or_replaced(unprotected: Run) -> None:
    seen = unprotected.evidence
    lost = seen["requests"]["failed"] + seen["streams"]["sent"] - seen["streams"]["finished"]
    assert lost > 0
    assert [worker for worker in seen["workers"] if worker["restarts"] or worker["uid_before"] != worker["uid_after"]]


def test_losses_begin_only_after_the_fault(unprotected: Run) -> None:
    """Earlier losses would have another cause than the fault."""
    (before,) = [phase for phase in unprotected.evidence["phases"] if phase["name"] == "before"]
    assert before["requests"] > 0
    assert before["failed"] == 0


def test_the_evidence_of_a_failed_drill_has_a_debug_bundle(unprotected: Run) -> None:
    assert (unprotected.folder / "report.html").exists()
    assert list(ET.parse(unprotected.folder / "junit.xml").getroot().iter("failure"))
    bundle = unprotected.folder / "debug"
    assert list(bundle.rglob("rayservices.yaml"))
    for log in ("serve/controller_*.log", "serve/proxy_*.log", "serve/replica_*.log", "python-core-worker-*.log", "raylet.out"):
        assert [path for path in bundle.rglob(f"ray/*/session_*/logs/{log}") if path.stat().st_size], log


def test_a_lifecycle_with_a_failed_verdict_cleans_up(unprotected: Run) -> None:
    assert unprotected.stage("cleanup")
