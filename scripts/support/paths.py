"""The folders of the demo and the tests. Importing creates none of them."""

from __future__ import annotations

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


def private_folder(path: Path) -> Path:
    """Create the folder if necessary, with access for its owner only, and return it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path
