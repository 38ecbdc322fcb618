"""The project can be installed as a package, and `leeward` then runs without the pipeline's packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

from drills.stages.judging import own_version
from scripts import tools
from scripts.support.paths import ROOT

OBJECTS = """
from drills.definition import Load
from drills.request import Template
from drills.runner.load_job import Placement, job_objects
from drills.subject import Subject

openai = Template.of("openai", values={"model": "m"})
made = job_objects(Subject(namespace="a", name="b", home="a"), "load", Placement(image="i"), Load(), 60, openai)
print(*(thing["kind"] for thing in made))
"""
"""Makes the objects of a load: the manifest, the presets and the program itself are in the package."""


def test_leeward_runs_from_an_environment_that_has_nothing_else(tmp_path: Path) -> None:
    program = str(tools.uv())
    python = tmp_path / "venv" / "bin" / "python"
    for command in (
        [program, "venv", "--quiet", str(python.parents[1])],
        [program, "pip", "install", "--quiet", "--python", str(python), str(ROOT)],
    ):
        subprocess.run(command, check=True, timeout=300)
    has_prefect = subprocess.run([python, "-c", "import prefect"], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert has_prefect.returncode, "this environment is to have what leeward needs alone"
    leeward = python.with_name("leeward")
    report = subprocess.run([leeward, "report", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "evidence" in report.stdout, report.stderr
    nowhere = ["lint", "--kubeconfig", str(tmp_path / "none")]
    refused = subprocess.run([leeward, *nowhere], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, "name one with --kubeconfig" in refused.stderr) == (2, True), refused.stderr
    version = subprocess.run([leeward, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert version.stdout == f"leeward {own_version()}\n", version.stderr
    rights = subprocess.run([leeward, "rbac", "head-pod"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "kind: RoleBinding" in rights.stdout, rights.stderr
    made = subprocess.run([python, "-c", OBJECTS], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert made.stdout.split() == ["Job", "ConfigMap"], made.stderr
