"""The drill of the drills: services that are broken on purpose are deployed by kubectl alone, and `leeward drill` must catch each.

Lint is not consulted by a drill; it must name each that it can see. The healthy service that they change must pass every page that catches
one of them.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import strangers
from system_under_test import System

from scripts.support.paths import PYTHON, ROOT
from tests.mutants.designs import DESIGNS, HEALTHY, SERVICE, Design

WITHIN_S = 1800.0
QUICK = "one-replica"
"""The design that is drilled in every run of the tests. What is judged of the others is held there by `unprotected` and by
tests/unit/drills/test_mutant_servers.py; that a healthy service passes, by `cleaned` and by a service of others.
"""


class Leeward:
    """The command, for one namespace of the cluster."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._where = ["--kubeconfig", str(kubeconfig), "-n", namespace]
        self._namespace = namespace

    def lint(self) -> set[str]:
        """Return the names of the broken rules."""
        return {finding["rule"] for finding in json.loads(self._run("lint", "--json").stdout)["findings"]}

    def drill(self, design: Design, folder: Path) -> tuple[int, dict[str, Any], str]:
        """Drill the service; return exit code, evidence of the drill or the series (empty: it has none), and what was printed."""
        done = self._run("drill", *design.drill(), "--break", f"{self._namespace}/{SERVICE}", "--out", str(folder))
        found = next((folder / name for name in ("series.json", "evidence.json") if (folder / name).exists()), None)
        return done.returncode, json.loads(found.read_text()) if found else {}, done.stdout + done.stderr

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(PYTHON), "-m", "drills", *arguments, *self._where]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)


CODES = {"passed": 0, "failed": 1, "aborted": 3}
DRILLED = [pytest.param(d, id=d.name, marks=[] if d.name == QUICK else pytest.mark.long) for d in DESIGNS.values()]
TWINS = [pytest.param(d, id=d.page, marks=pytest.mark.long) for d in HEALTHY]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("design", [*TWINS, *DRILLED])
def test_a_drill_passes_the_healthy_service_and_catches_every_broken_one_with_its_cause(
    design: Design, kubectl: strangers.Kubectl, images: dict[str, str], system: System, tmp_path: Path
) -> None:
    namespace = f"mutant-{design.name}"
    leeward = Leeward(system.kubeconfig, namespace)
    with strangers.applied(kubectl, namespace, design.objects(images)):
        rules = leeward.lint()
        code, evidence, printed = leeward.drill(design, tmp_path / "drill")
    # A drill that ends before its fault has no evidence: what it printed has the reason.
    reasons = " ".join(evidence.get("why", [printed]))
    assert (evidence.get("verdict", "aborted"), code) == (design.verdict, CODES[design.verdict]), printed
    assert [words for words in design.causes if words not in reasons] == [], reasons
    assert set(design.rules) <= rules
