"""The number of cores that a process may use, by its control groups and its CPU affinity. Standard library only.

More threads than that make every step slower: when the quota is used up, the kernel stops all of them in the middle of a step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def allowed_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least 1; a limit of 1.5 cores counts as 2. `root` contains proc and sys;
    only tests give another than /."""
    limits = (_limit(folder) for folder in _groups(root))
    return max(1, min([len(os.sched_getaffinity(0)), *(math.ceil(limit) for limit in limits if limit is not None)]))


def _groups(root: Path) -> Iterator[Path]:
    """Yield folders that may have a limit: the process's group and all above it, for both versions of cgroups.

    A container often sees the path that its group has on the node, while the group itself is at the root of the mounted tree; so some of
    the folders do not exist.
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
    """Return the cores that the group may use; None: no limit, or no such group."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except OSError:
        return None
