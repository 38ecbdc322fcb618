"""The folders of the demo and the tests. Importing creates none of them."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
"""The locked environment's interpreter; it exists after set-up."""

STATE = ROOT / ".leeward"
"""Folder of everything that runs leave in the project's folder; ignored by git."""
EVIDENCE = STATE / "evidence"
"""Folder of the evidence of every run; never emptied."""
LOGS = STATE / "logs"
RUN = STATE / "run"
"""Folder about what is up right now: process records, kubeconfig. `./demo --down` removes it."""
PREFECT_HOME = STATE / "prefect"
"""Folder of the Prefect server's database and results; emptied at every start."""
TEMPORARY = STATE / "tmp"
"""TMPDIR of everything the worker runs, so that after a SIGKILL no file of it is left in /tmp."""


def cache_dir() -> Path:
    """Return the folder of downloads: $XDG_CACHE_HOME/leeward, else ~/.cache/leeward. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification tells programs to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "leeward"


def write_private(path: Path, text: str) -> Path:
    """Write `text` to `path`, readable by its owner only (mode 0600), and return the path."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return path


def private_folder(path: Path) -> Path:
    """Create the folder if necessary, with access for its owner only, and return it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path
