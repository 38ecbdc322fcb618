"""Folders of the embedded cloud. Standard library only; importing it creates nothing."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parent
GO_DIR = PACKAGE_DIR / "build" / "go"
"""Folder of the sources that are compiled: one Go module per folder."""

DATA_DIR = Path("/var/lib/leeward")
"""Folder to which the running cloud writes: etcd, containerd, registry. `down` removes it."""

RUN_DIR = Path("/run/leeward")
"""Folder of the host-side state of the running cloud: lock and credentials (0600)."""


def cache_dir() -> Path:
    """Return the folder of everything built or downloaded once: $XDG_CACHE_HOME/leeward, else ~/.cache/leeward. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification tells programs to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "leeward"


def artifacts_dir() -> Path:
    """Return the folder of finished artefacts, one folder each, named `<artefact>-<hash of its inputs>`."""
    return cache_dir() / "artifacts"


def build_logs_dir() -> Path:
    """Return the folder of build logs, the last one of each artefact."""
    return cache_dir() / "logs"
