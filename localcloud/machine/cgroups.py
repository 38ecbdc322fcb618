"""Control groups of the cloud: one tree named `leeward`, with a folder for the cloud and one for each node.

Both layouts are supported: version 2 (one hierarchy) and version 1, also mixed (one hierarchy per controller). Every process
in the tree belongs to the cloud: that is how all of it is found, killed and removed, without recorded pids.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcloud.machine.interface import MachineError

TREE = "leeward"
CLOUD = f"{TREE}/cloud"
"""Group of guardian, supervisor, control plane, Redis and registry."""
INIT = "init"
"""Child that takes the processes of a group whose controllers are enabled for its children."""
ROOT = Path("/sys/fs/cgroup")
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
NEEDED = ("cpu", "memory", "pids")
"""Controllers without which no node can run."""
_CONTROLLERS = ("memory", "io", "hugetlb", "misc", "cpuset", "cpu", "pids")
"""Controllers in the order in which they are enabled. The kernel may enable the last three, which are threaded, even in a group
with processes. So the others come first: they fail before anything is enabled."""
_INTERNAL_PROCESSES = (errno.EBUSY, errno.EOPNOTSUPP)
"""Errors for a group that contains processes itself; EOPNOTSUPP when it has threaded children already."""
_NOT_CONTROLLERS = {"rw", "ro", "relatime", "noatime", "nosuid", "nodev", "noexec", "xattr", "clone_children", "none"}
_JOIN = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
_ENABLE_ALL = 'for c in $(cat "$1/cgroup.controllers"); do echo "+$c" > "$1/cgroup.subtree_control" || :; done'


@dataclass(frozen=True)
class Hierarchy:
    """One mounted control group file system."""

    path: Path
    options: str
    """Mount options for the mount inside a node: its controllers or name; empty for version 2."""

    @property
    def version(self) -> int:
        """Version of control groups, 1 or 2."""
        return 1 if self.options else 2


def parse(mounts: str) -> tuple[Hierarchy, ...]:
    """Parse the text of /proc/self/mounts: each hierarchy once, where it is mounted first, in that order."""
    found: dict[str, Hierarchy] = {}
    for line in mounts.splitlines():
        _, path, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            hierarchy = Hierarchy(Path(path), _mount_options(options) if kind == "cgroup" else "")
            found.setdefault(hierarchy.options, hierarchy)
    return tuple(found.values())


def _mount_options(options: str) -> str:
    kept = [o for o in options.split(",") if o not in _NOT_CONTROLLERS and not o.startswith(("release_agent=", "nsroot="))]
    return ",".join(["none", *kept] if kept and kept[0].startswith("name=") else kept)


def hierarchies() -> tuple[Hierarchy, ...]:
    """Return the hierarchies of this machine; MachineError when it has none."""
    found = parse(Path("/proc/self/mounts").read_text())
    if not found:
        raise MachineError(f"no control groups are mounted at {ROOT}: `mount -t cgroup2 none {ROOT}`")
    return found


def create(group: str) -> None:
    """Make the group in every hierarchy, with every controller that the machine has."""
    for hierarchy in hierarchies():
        folder = hierarchy.path
        for part in Path(group).parts:
            if hierarchy.version == 2:
                enable_controllers(folder)
            folder /= part
            folder.mkdir(exist_ok=True)
            _inherit_cpuset(folder)


def create_root(group: str) -> None:
    """Make the group and its child `init`, for a process that makes the group the root of its namespace, then moves into the child.

    A version 2 group can enable controllers for its children or contain processes, not both. So `remount` enables them,
    when all processes are in `init`.
    """
    create(group)
    for hierarchy in hierarchies():
        folder = hierarchy.path / group / INIT
        folder.mkdir(exist_ok=True)
        _inherit_cpuset(folder)


def enable_controllers(folder: Path) -> None:
    """Enable every controller of this version 2 group for its children.

    The kernel refuses that when processes are in the group itself. Then MachineError, unless all in NEEDED are enabled already.
    """
    have = (folder / "cgroup.controllers").read_text().split()
    switch = folder / "cgroup.subtree_control"
    enabled = switch.read_text().split()
    for controller in _CONTROLLERS:
        if controller in have and controller not in enabled:
            try:
                switch.write_text(f"+{controller}")
            except OSError as error:
                if controller in NEEDED:
                    crowded = error.errno in _INTERNAL_PROCESSES
                    remedy = f"; move its processes into a group below: {command_to_move_processes(folder)}" if crowded else ""
                    raise MachineError(f"cannot enable the {controller} controller below {folder} ({error.strerror}){remedy}") from error


def has_internal_processes(folder: Path) -> bool:
    """Return whether processes in this version 2 group keep NEEDED from being enabled for its children. The machine's root may do both."""
    enabled = (folder / "cgroup.subtree_control").read_text().split()
    is_root = not (folder / "cgroup.type").exists()
    return not is_root and not set(NEEDED) <= set(enabled) and bool((folder / "cgroup.procs").read_text().strip())


def command_to_move_processes(folder: Path) -> str:
    """Return the shell command that moves a group's processes into a child and enables controllers. runc moves later ones."""
    moving = f"mkdir -p {folder}/init && xargs -rn1 <{folder}/cgroup.procs >{folder}/init/cgroup.procs"
    return f"{moving}; echo {' '.join(f'+{name}' for name in NEEDED)} >{folder}/cgroup.subtree_control"


def set_weight(group: str = TREE) -> None:
    """Give the group the CPU weight of ten processes outside it, because the cloud stands for a dozen machines.

    The caller must be outside the group. What the kernel weighs against the group is each process beside it, or each session
    where it groups processes by session, or, as under systemd, all processes of the caller's own group together. A session
    or a group is counted as four processes: about as many are busy in a run of the pipeline (Prefect's server, its worker,
    the flow, a build).
    """
    for top in folders(group):
        for name, process in (("cpu.shares", 1024), ("cpu.weight", 100)):
            if (top / name).exists():
                single = str(os.getpid()) in (top.parent / "cgroup.procs").read_text().split() and not _weighs_sessions(top.parent)
                (top / name).write_text(str(process * 10 // (1 if single else 4)))


def _weighs_sessions(folder: Path) -> bool:
    """Return whether the kernel weighs sessions, not processes, in this folder: sched_autogroup does in the machine's root group only."""
    is_root = (folder / "release_agent").exists() or ((folder / "cgroup.controllers").exists() and not (folder / "cgroup.type").exists())
    return is_root and AUTOGROUP.exists() and AUTOGROUP.read_text().strip() == "1"


def _inherit_cpuset(folder: Path) -> None:
    """Copy processors and memory nodes from the parent: a new version 1 cpuset is empty, and takes no process until it has both."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own = folder / name
        if own.exists() and not own.read_text().strip() and (folder / "tasks").exists():
            own.write_text((folder.parent / name).read_text())


def join(group: str, argv: Sequence[str]) -> list[str]:
    """Return the command that enters the group in every hierarchy, then becomes `argv`."""
    return ["sh", "-c", _JOIN, "join", *(str(hierarchy.path / group) for hierarchy in hierarchies()), "--", *argv]


def remount() -> list[list[str]]:
    """Return commands that make a node, in its own mount and cgroup namespace, see its group as the root."""
    found = hierarchies()
    if any(hierarchy.version == 1 for hierarchy in found):
        return mounts()
    return [*mounts(), *(["sh", "-c", _ENABLE_ALL, "enable-all", str(hierarchy.path)] for hierarchy in found)]


def mounts() -> list[list[str]]:
    """Return the mount commands of `remount`. They change nothing outside the mount namespace that they run in."""
    # The kernel refuses to mount version 2 on a mount point of version 2: a tmpfs is mounted between them.
    commands = [["mount", "-t", "tmpfs", "-o", "mode=755,size=1m", "tmpfs", str(ROOT)]]
    for hierarchy in hierarchies():
        commands.append(["mkdir", "-p", str(hierarchy.path)])
        if hierarchy.version == 2:
            commands.append(["mount", "-t", "cgroup2", "cgroup2", str(hierarchy.path)])
        else:
            commands.append(["mount", "-t", "cgroup", "-o", hierarchy.options, "cgroup", str(hierarchy.path)])
            commands.extend(_links(hierarchy))
    return commands


def _links(hierarchy: Hierarchy) -> Iterator[list[str]]:
    """Make links such as `cpu` to `cpu,cpuacct`: programs look for a controller under its own name."""
    names = hierarchy.path.name.split(",")
    if len(names) > 1:
        for name in names:
            yield ["ln", "-sfn", hierarchy.path.name, str(hierarchy.path.parent / name)]


def processes(group: str = TREE) -> set[int]:
    """Return the pids in the group and below, without zombies."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for folder, _, files in os.walk(hierarchy.path / group):
            if "cgroup.procs" in files:
                with contextlib.suppress(OSError):
                    found.update(int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())
    return {pid for pid in found if pid > 0 and not _is_zombie(pid)}


def _is_zombie(pid: int) -> bool:
    """Return whether the process has ended. If only its first thread has, it is shown as a zombie (Z) too, but has more threads."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return fields[0] in "ZX" and int(fields[17]) <= 1


def kill(group: str = TREE, within: float = 60.0) -> set[int]:
    """Kill all processes in the group and below; return the pids that are still there after `within` seconds."""
    deadline = time.monotonic() + within
    while left := processes(group):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return left
        time.sleep(0.1)
    return set()


def folders(group: str = TREE) -> list[Path]:
    """Return the group's folders that exist, at most one per hierarchy."""
    return [folder for hierarchy in hierarchies() if (folder := hierarchy.path / group).is_dir()]


def remove(group: str = TREE, within: float = 30.0) -> list[Path]:
    """Remove the group and all below; return the folders that are still there after `within` seconds."""
    deadline = time.monotonic() + within
    while left := folders(group):
        for top in left:
            _remove_tree(top)
        if time.monotonic() > deadline:
            return folders(group)
        if folders(group):
            time.sleep(0.1)  # a dying process leaves its group a moment after it was killed
    return []


def _remove_tree(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTEMPTY):
                raise


def memory() -> int:
    """Return the bytes of memory that the cloud's processes use, without the page cache; 0 when there is no cloud."""
    for hierarchy in hierarchies():
        with contextlib.suppress(OSError):
            rows = dict(line.split() for line in (hierarchy.path / TREE / "memory.stat").read_text().splitlines())
            return int(rows.get("total_rss", rows.get("anon", "0")))
    return 0
