"""Checks the machine as a whole: user, system, Python, cores, memory, disk."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from localcloud import paths, settings
from localcloud.build import debian
from localcloud.doctor.check import MISSING, OK, WARNING, Check

_GB = 10**9


def user() -> Check:
    """Check that this is root: only root can make namespaces, mounts and addresses."""
    if os.geteuid() == 0:
        return Check("root", OK, "running as root")
    return Check("root", MISSING, f"running as uid {os.geteuid()}", "run as root: namespaces, mounts and addresses need it")


def operating_system() -> Check:
    """Check that this is Debian: packages are installed by apt, under Debian's names."""
    return judge_system(debian.os_release(), platform.machine())


def judge_system(release: dict[str, str], machine: str) -> Check:
    """Decide from the fields of os-release and the machine's architecture."""
    name = f"{release.get('PRETTY_NAME', 'unknown system')} on {machine}"
    if instead := debian.refusal(release):
        return Check("system", MISSING, name, instead)
    if machine not in ("x86_64", "aarch64"):
        return Check("system", MISSING, name, "use an x86-64 machine")
    if machine != "x86_64":
        return Check("system", WARNING, f"{name}; tried on x86-64 only")
    return Check("system", OK, name)


def python() -> Check:
    """Check for the oldest Python that the pipeline supports."""
    wanted = ".".join(map(str, settings.MIN_PYTHON))
    found = platform.python_version()
    if sys.version_info[:2] >= settings.MIN_PYTHON:
        return Check("python", OK, f"Python {found}")
    return Check("python", MISSING, f"Python {found}", f"install Python {wanted} or newer and start with it")


def cores() -> Check:
    """Check the cores. Two are enough for the drill's load (measured); on one, the new head takes the workers' time."""
    count = len(os.sched_getaffinity(0))
    if count >= 2:
        return Check("cores", OK, f"{count} cores")
    return Check("cores", WARNING, "1 core: the drill's latency targets will probably be missed", "give the machine two cores")


def memory() -> Check:
    """Check the memory that a process may still take: the machine's available memory, or less if a cgroup limits it."""
    available = parse_available(Path("/proc/meminfo").read_text())
    limits = [limit for limit in map(_limit, ("memory.max", "memory/memory.limit_in_bytes")) if limit is not None]
    return judge_memory(min([available, *limits]))


def judge_memory(available: int) -> Check:
    """Decide from the available bytes."""
    found, wanted = f"{available / _GB:.1f} GB available", f"{settings.MIN_AVAILABLE_MEMORY / _GB:.0f} GB"
    if available >= settings.MIN_AVAILABLE_MEMORY:
        return Check("memory", OK, found)
    return Check("memory", MISSING, f"{found}, {wanted} needed", "stop something large, or use a larger machine")


def parse_available(meminfo: str) -> int:
    """Return MemAvailable of /proc/meminfo in bytes."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024


def _limit(name: str) -> int | None:
    """Return the bytes that the outermost visible cgroup allows; None when it has no limit."""
    try:
        text = Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def disk() -> list[Check]:
    """Check the free space for the cache and the running cloud's data; less is needed once everything was built."""
    needed = settings.MIN_FREE_DISK_BUILT if built() else settings.MIN_FREE_DISK
    wanted = {paths.cache_dir(): "cache", paths.DATA_DIR: "data of the cloud"}
    filesystems: dict[int, list[Path]] = {}
    for path in wanted:
        filesystems.setdefault(existing(path).stat().st_dev, []).append(path)
    return [_room(folders, needed) for folders in filesystems.values()]


def built() -> bool:
    """Return whether the cache has the largest binary, of any version: making it takes most of the space of the first build."""
    return any(paths.artifacts_dir().glob("kubernetes-*"))


def existing(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    return path if path.exists() else existing(path.parent)


def _room(folders: list[Path], needed: int) -> Check:
    status = os.statvfs(existing(folders[0]))
    return judge_room(" and ".join(map(str, folders)), status.f_bavail * status.f_frsize, needed)


def judge_room(where: str, free: int, needed: int) -> Check:
    """Decide from the free and the needed bytes."""
    found, wanted = f"{free / _GB:.0f} GB for {where}", f"{needed / _GB:.0f} GB"
    if free >= needed:
        return Check("disk", OK, found)
    return Check("disk", MISSING, f"{found}, {wanted} needed", "free some, or set XDG_CACHE_HOME and mount a larger disk there")
