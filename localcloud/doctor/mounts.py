"""The mount table, as far as the doctor reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo."""

    point: str
    type: str
    options: frozenset[str]
    """Of the mount and of its filesystem: cgroup v1 names its controllers among the latter."""


def parse_mounts(mountinfo: str) -> list[Mount]:
    """Reads /proc/self/mountinfo; a later mount on the same point hides the earlier one."""
    mounts: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if not separator or len(fields) < 6 or len(rest) < 3:
            continue
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4])
        mounts[point] = Mount(point, rest[0], frozenset(fields[5].split(",")) | frozenset(rest[2].split(",")))
    return list(mounts.values())


def mount_of(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that holds the path."""
    parents = {str(path), *map(str, path.parents)}
    holding = [mount for mount in mounts if mount.point in parents]
    return max(holding, key=lambda mount: len(mount.point), default=None)
