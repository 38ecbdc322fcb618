"""The layers of ARCHITECTURE.md hold, and no modules import each other in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MAY_IMPORT = {
    "flows": ("flows", "tasks", "blocks", "drills"),
    "tasks": ("tasks", "blocks", "drills", "startup"),
    "startup": ("startup", "localcloud.settings"),
    "blocks": ("blocks", "drills.subject", "drills.value"),
    "drills.load": ("drills.load", "drills.records"),
    "drills": ("drills", "blocks.errors", "blocks.addresses"),
    "serving": ("serving",),
    "benchmarks": ("benchmarks", "serving", "drills.load", "drills.records", "drills.runner.load_file", "scripts"),
    "scripts": (
        "scripts",
        "startup",
        "localcloud.build",
        "localcloud.doctor",
        "localcloud.files",
        "localcloud.paths",
        "localcloud.progress",
    ),
    "scripts.installed": ("scripts", "startup", "tasks", "blocks", "drills", "localcloud.build", "localcloud.files"),
    "localcloud.aws": (
        "localcloud.aws",
        "localcloud.machine.interface",
        "localcloud.machine.pki",
        "localcloud.machine.cluster.pod_webhook",
        "localcloud.settings",
    ),
    "localcloud.machine": ("localcloud.machine", "localcloud.settings", "localcloud.paths", "localcloud.files"),
    "localcloud.build": (
        "startup",
        "localcloud.build",
        "localcloud.settings",
        "localcloud.paths",
        "localcloud.progress",
        "localcloud.files",
    ),
    "localcloud.doctor": ("localcloud", "startup"),
    "localcloud.host": ("localcloud", "startup"),
}
"""What each package may import of this repository; a prefix allows everything below it. For a package in another its own line counts."""


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for package in {name.partition(".")[0] for name in MAY_IMPORT}:
        for file in (ROOT / package).rglob("*.py"):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = file
    return found


MODULES = modules()


@cache
def imports(name: str) -> frozenset[str]:
    """The modules of this repository that a module imports, also inside functions; a package counts when one of its names is imported."""
    return frozenset(_imports(name))


def _imports(name: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                if target in MODULES or node.module in MODULES:
                    yield target if target in MODULES else node.module


def below(name: str, prefix: str) -> bool:
    """Whether a module is the package itself or lies in it."""
    return name == prefix or name.startswith(f"{prefix}.")


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_its_layer_allows(package: str) -> None:
    inside = [name for name in MODULES if package == max((other for other in MAY_IMPORT if below(name, other)), key=len, default="")]
    assert inside, f"{package} has no modules: is the table out of date?"
    wrong = {
        f"{name} imports {other}" for name in inside for other in imports(name) if not any(below(other, p) for p in MAY_IMPORT[package])
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imports(name) - {name} for name in MODULES}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    circles = {name: sorted(targets & graph.keys()) for name, targets in graph.items()}
    assert not circles, "\n".join(f"{name} -> {', '.join(targets)}" for name, targets in sorted(circles.items()))


def test_no_folder_of_the_product_has_more_than_sixteen_modules() -> None:
    counts: dict[Path, int] = {}
    for file in MODULES.values():
        counts[file.parent] = counts.get(file.parent, 0) + (not file.name.startswith("__"))
    assert not {str(folder): count for folder, count in counts.items() if count > 16}


def test_drills_can_be_used_without_prefect_terraform_and_aws() -> None:
    names = [name for name in MODULES if below(name, "drills") and not name.endswith("__main__")]
    code = "import importlib, sys; [importlib.import_module(n) for n in sys.argv[1:]]; print({m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert "drills" in done.stdout
    assert not {"prefect", "boto3", "python_terraform", "tasks", "flows"} & ast.literal_eval(done.stdout)
