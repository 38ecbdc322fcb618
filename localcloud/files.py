"""Private files, and the last lines of logs. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

_READ = 16_384
"""Bytes that `last_lines` reads from the end of a log."""


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, from the moment it is created. Returns its path."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def last_lines(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log, for an error message; empty when there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _READ))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:400] for line in text.splitlines()[-lines:])
