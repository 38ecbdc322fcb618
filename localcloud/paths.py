"""Where the embedded cloud keeps things. Standard library only; nothing is created by importing."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parent
GO_DIR = PACKAGE_DIR / "build" / "go"
"""Sources of what is compiled: one Go module per folder."""

DATA_DIR = Path("/var/lib/leeward")
"""What the running cloud writes: etcd, containerd, registry. Gone after `down`."""

RUN_DIR = Path("/run/leeward")
"""Host-side state of the running cloud: lock, supervisor's pid and start time, credentials (0600)."""


def cache_dir() -> Path:
    """Folder of everything built or downloaded once: $XDG_CACHE_HOME/leeward, else ~/.cache/leeward. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification tells programs to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "leeward"


def artifacts_dir() -> Path:
    """Folder of finished artefacts, one folder each, named `<artefact>-<hash of its inputs>`."""
    return cache_dir() / "artifacts"


def build_logs_dir() -> Path:
    """Folder of the logs of builds, the last one of each artefact."""
    return cache_dir() / "logs"
