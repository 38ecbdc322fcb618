"""A Python 3.10 with what serving/ needs there: the neuron image's Python, which no longer comes with systems.

The interpreter is `python3.10` on the PATH, else one that uv knows of, else python-build-standalone's, which a Go module
carries (python310_module/go.mod; its content is checked against go.sum). It is unpacked once, into the user's cache.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from localcloud import paths
from localcloud.build import toolchain
from localcloud.build.cache import Cache, Recipe, Workspace
from localcloud.build.command import BuildError
from localcloud.progress import Report
from scripts import tools

ROOT = Path(__file__).resolve().parents[2]
MODULE = Path(__file__).parent / "python310_module"
IMAGES = ROOT / "serving" / "images"
REQUIREMENTS = (
    *("mistral-common[sentencepiece]", "tokenizers", "jinja2", "numpy", "fastapi", "uvicorn"),
    *("httpx", "openai", "pytest", "pytest-timeout", "hypothesis"),
)
"""Those that the neuron image has too come in its locked versions."""
WITHIN_S = 900.0


class NoPython310(Exception):
    """There is none, and none can be had; says why."""


@cache
def interpreter() -> Path:
    """A Python 3.10 that runs.

    Raises:
        NoPython310: the last way to one failed.
    """
    for found in (shutil.which("python3.10"), _known_to_uv()):
        if found and _is_310(Path(found)):
            return Path(found)
    try:
        return _unpacked() / "bin" / "python3.10"
    except (OSError, subprocess.SubprocessError, BuildError, ValueError) as error:
        raise NoPython310(f"no python3.10 on the PATH, none that uv knows of, and not from the Go module: {error}") from error


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The interpreter's run with these arguments in the project's folder, the packages at hand."""
    python = interpreter()
    path = os.pathsep.join((str(ROOT), str(_packages(python))))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL_ENV"))}
    env = {**clean, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([python, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=WITHIN_S, check=False)


def _is_310(python: Path) -> bool:
    """A shim may be there that only says that there is no such version."""
    said = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False)
    return said.returncode == 0 and said.stdout.split() == ["3", "10"]


def _known_to_uv() -> str | None:
    found = subprocess.run([_uv(), "python", "find", "--no-python-downloads", "3.10"], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _uv() -> str:
    """The one that made this environment: a machine need not have one on its PATH."""
    return str(tools.uv())


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _unpacked() -> Path:
    pinned = (MODULE / "go.sum").read_text(encoding="utf-8")
    recipe = Recipe("python310", (("go.sum", pinned), ("machine", platform.machine())), _unpack)
    return Cache(paths.artifacts_dir()).get(recipe, _say).path


def _unpack(work: Workspace, say: Report) -> None:
    """The module's files as its own list has them: some compressed, links apart."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    source = _module(say) / "python" / "internal" / "data" / f"linux-{machine}"
    for entry in json.loads((source / "files.json").read_text(encoding="utf-8"))["files"]:
        target = work.out / entry["name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if link := entry.get("symlink"):
            target.symlink_to(link)
        elif entry.get("compressed"):
            target.write_bytes(gzip.decompress((source / (entry["name"] + ".gz")).read_bytes()))
            target.chmod(0o755)
        elif (source / entry["name"]).is_file():
            shutil.copyfile(source / entry["name"], target)
    # Compiled now, because a test run writes no bytecode.
    subprocess.run([work.out / "bin" / "python3.10", "-m", "compileall", "-q", work.out / "lib"], check=True, timeout=WITHIN_S)


def _module(say: Report) -> Path:
    """The Go module's folder, its content as go.sum says."""
    artifacts = Cache(paths.artifacts_dir())
    go = toolchain.find(artifacts)
    if go.recipe:
        artifacts.get(go.recipe, say)
    module, version = next(line.split()[1:3] for line in (MODULE / "go.mod").read_text().splitlines() if line.startswith("require "))
    command = [go.binary, "mod", "download", "-json", f"{module}@{version}"]
    said = subprocess.run(command, cwd=MODULE, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    found = json.loads(said.stdout)
    if said.returncode or found.get("Error"):
        raise BuildError(f"go mod download {module}@{version}: {found.get('Error') or said.stderr}")
    return Path(found["Dir"])


def _packages(python: Path) -> Path:
    """A folder with the requirements for Python 3.10."""
    locked, overrides = IMAGES / "requirements-neuron.txt", IMAGES / "overrides.txt"
    inputs = [(file.name, file.read_text(encoding="utf-8")) for file in (locked, overrides)]
    inputs += [("requirements", " ".join(REQUIREMENTS)), ("machine", platform.machine())]

    def install(work: Workspace, say: Report) -> None:
        options = ["--compile-bytecode", "--python", python, "--target", work.out, "--constraint", locked, "--override", overrides]
        subprocess.run([_uv(), "pip", "install", "--quiet", *options, *REQUIREMENTS], check=True, timeout=WITHIN_S)

    return Cache(paths.artifacts_dir()).get(Recipe("python310-packages", tuple(inputs), install), _say).path
