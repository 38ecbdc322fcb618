"""`leeward lint` on a service that runs: the pipeline's own keeps every rule, and a shape that is known to fail is found."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from system_under_test import Run, System

from scripts.support.paths import PYTHON, ROOT


def lint(system: System) -> tuple[int, dict[str, Any]]:
    """Run lint on the service; return its exit code and its findings."""
    command = [str(PYTHON), "-m", "drills", "lint", "--kubeconfig", str(system.kubeconfig), "-n", "mistral", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_service_keeps_every_rule_as_it_runs(protected: Run, system: System) -> None:
    code, found = lint(system)
    assert found["findings"] == []
    assert found["not_checked"] == {}
    assert found["not_read"] == []
    assert code == 0


@pytest.mark.long
def test_the_old_shape_of_the_service_is_found(outdated: System) -> None:
    code, found = lint(outdated)
    assert "the head's address stays" in [finding["rule"] for finding in found["findings"]]
    assert code == 1
