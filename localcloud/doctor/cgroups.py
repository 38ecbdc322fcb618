"""Checks control groups: version 1 or 2, with the controllers that kubelet and runc need, writable."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from localcloud.doctor.check import MISSING, OK, WARNING, Check
from localcloud.doctor.kernel import try_command
from localcloud.machine.cgroups import ROOT, Hierarchy, command_to_move_processes, has_internal_processes, mounts, parse

_V1 = ("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
_V2 = ("cpu", "cpuset", "memory", "pids")
_REMOUNT = "in a container: start it privileged; on a machine: mount them (systemd does) and look for cgroup_disable= in /proc/cmdline"


def control_groups() -> Check:
    """Check what is mounted, and try to make a group in each hierarchy and to mount the hierarchies as a node does."""
    found = parse(Path("/proc/self/mounts").read_text())
    if is_v2(found):
        return unified(ROOT)
    hierarchies = v1_hierarchies(found)
    return _judge("version 1", [c for c in _V1 if c not in hierarchies], sorted({hierarchies[c] for c in _V1 if c in hierarchies}))


def unified(root: Path) -> Check:
    """Check the root of version 2. Controllers are not enabled for children on trial, because that would change it for all processes."""
    available = (root / "cgroup.controllers").read_text().split()
    found = _judge("version 2", [c for c in _V2 if c not in available], [str(root)])
    if found.status == OK and has_internal_processes(root):
        return Check(
            "cgroups",
            MISSING,
            f"version 2, and processes in {root} itself keep controllers from groups below it",
            f"move them below: {command_to_move_processes(root)}",
        )
    return found


def is_v2(found: Sequence[Hierarchy]) -> bool:
    """Return whether the unified hierarchy is in use. In a hybrid setup it is mounted elsewhere, without controllers."""
    return any(hierarchy.version == 2 and hierarchy.path == ROOT for hierarchy in found)


def v1_hierarchies(found: Sequence[Hierarchy]) -> dict[str, str]:
    """Return where each controller of version 1 is mounted."""
    return {name: str(hierarchy.path) for hierarchy in found for name in _V1 if name in hierarchy.options.split(",")}


def _judge(version: str, lacking: Sequence[str], folders: Sequence[str]) -> Check:
    if not folders:
        return Check("cgroups", MISSING, "none are mounted", _REMOUNT)
    if lacking:
        return Check("cgroups", MISSING, f"{version} without {', '.join(lacking)}", _REMOUNT)
    if os.geteuid() != 0:
        return Check("cgroups", WARNING, f"{version}; cannot be tried without being root")
    if refused := _refusing(folders):
        return Check("cgroups", MISSING, f"{version}, but no group can be made in {', '.join(refused)}", _REMOUNT)
    mounting = "\n".join(["set -e", *map(shlex.join, mounts())])
    return try_command(
        "cgroups", ["unshare", "--mount", "--cgroup", "sh", "-c", mounting], f"{version}, writable, and a node can mount its own"
    )


def _refusing(folders: Iterable[str]) -> list[str]:
    refused = []
    for folder in folders:
        group = Path(folder, f"leeward-doctor-{os.getpid()}")
        try:
            group.mkdir()
            group.rmdir()
        except OSError:
            refused.append(folder)
    return refused
