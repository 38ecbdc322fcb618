"""Folders of this checkout. Importing this module creates none of them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

STATE = ROOT / ".leeward"
"""What runs write and Git ignores."""

EVIDENCE = STATE / "evidence"
"""One folder a drill."""

TERRAFORM_RUNS = STATE / "terraform"
"""One folder a target: Terraform's working folder, its logs, and the records of its processes."""
