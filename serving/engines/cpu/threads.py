"""How many cores a process may use: what its control group allows, else what its scheduler does. Standard library only.

Threads beyond the limit make every step slower, not faster: the kernel halts them all in mid-step when the quota is used up.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def allowed_cores(root: Path = Path("/")) -> int:
    """At least 1; a limit of a core and a half is 2. `root` holds proc and sys, elsewhere than at / in tests only."""
    limits = (_limit(folder) for folder in _groups(root))
    return max(1, min([len(os.sched_getaffinity(0)), *(math.ceil(limit) for limit in limits if limit is not None)]))


def _groups(root: Path) -> Iterator[Path]:
    """Folders that may hold a limit: the process's group and all above it, of both versions.

    A container often sees the path that its group has on the node, but finds the group itself where the tree is mounted;
    folders that do not exist are therefore named too.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        path = PurePosixPath(group).relative_to("/")
        for above in (path, *path.parents):
            yield root / "sys/fs/cgroup" / controllers / above


def _limit(group: Path) -> float | None:
    """Cores that the group may use; None: as many as there are, or there is no such group."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except OSError:
        return None
