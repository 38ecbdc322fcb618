"""Where the demo and the tests keep things. Nothing is created by importing."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
"""The locked environment's interpreter; there after set-up."""

STATE = ROOT / ".leeward"
"""Everything that runs leave in the project's folder; ignored by git."""
EVIDENCE = STATE / "evidence"
"""Evidence of every run, kept over runs."""
LOGS = STATE / "logs"
RUN = STATE / "run"
"""What is up right now: process records, kubeconfig. Gone after `./demo --down`."""
PREFECT_HOME = STATE / "prefect"
"""Database and results of the Prefect server; made anew at every start."""
TEMPORARY = STATE / "tmp"
"""TMPDIR of everything the worker runs, so that nothing outlives a SIGKILL in /tmp."""


def cache_dir() -> Path:
    """Folder of what is downloaded once: $XDG_CACHE_HOME/leeward, else ~/.cache/leeward. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification tells programs to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "leeward"


def private_folder(path: Path) -> Path:
    """`path` exists and only its owner can look into it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path
