"""Everything in scripts/ but scripts/installed/ runs before anything is installed, with startup/ and parts of localcloud/."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from scripts.support.paths import ROOT

FILES = sorted((ROOT / "scripts").rglob("*.py"))
INSTALLED = [file for file in FILES if file.parent.name == "installed"]
CLOUD = sorted(
    [
        *(file for folder in ("build", "doctor") for file in (ROOT / "localcloud" / folder).glob("*.py")),
        *(ROOT / "localcloud" / f"{name}.py" for name in ("files", "paths", "progress", "settings")),
        *(ROOT / "localcloud" / "machine" / f"{name}.py" for name in ("cgroups", "interface", "processes")),
    ]
)
"""What scripts/ uses of the embedded cloud, and what that uses."""
OURS = (
    "scripts.",
    "startup",
    *(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in CLOUD),
    "localcloud.build.",
    "localcloud.doctor.",
)


def beyond_the_standard_library(file: Path) -> set[str]:
    """Names that a file imports from elsewhere than the standard library and those scripts that need nothing installed."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return {
        name
        for name in names
        if (name.split(".")[0] not in sys.stdlib_module_names and not f"{name}.".startswith(OURS)) or name.startswith("scripts.installed")
    }


@pytest.mark.parametrize(
    "file", [file for file in FILES + CLOUD if file not in INSTALLED], ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_a_script_outside_installed_imports_only_the_standard_library_and_its_like(file: Path) -> None:
    assert beyond_the_standard_library(file) == set()


@pytest.mark.parametrize("file", [file for file in INSTALLED if file.stem != "__init__"], ids=lambda file: file.stem)
def test_a_program_in_installed_imports_something_that_must_be_installed(file: Path) -> None:
    assert beyond_the_standard_library(file)
