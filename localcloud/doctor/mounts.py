"""The part of the mount table that the doctor needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    point: str
    type: str
    options: frozenset[str]
    """Options of the mount and of its file system; the latter contain the controllers of cgroup v1."""


def parse_mounts(mountinfo: str) -> list[Mount]:
    """Parse /proc/self/mountinfo; a later mount on the same point hides the earlier one."""
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
    """Return the mount that contains the path."""
    parents = {str(path), *map(str, path.parents)}
    holding = [mount for mount in mounts if mount.point in parents]
    return max(holding, key=lambda mount: len(mount.point), default=None)
