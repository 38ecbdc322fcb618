"""Folders of this checkout. Importing this module creates none of them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

STATE = ROOT / ".leeward"
"""Folder for everything that runs write; Git ignores it."""

EVIDENCE = STATE / "evidence"
"""Evidence, one folder per drill."""

TERRAFORM_RUNS = STATE / "terraform"
"""One folder per stack: Terraform's data, its logs, and the records of its processes."""
