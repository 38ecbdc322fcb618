"""What a cloud leaves on the host when it is gone, found and removed.

Its namespaces take processes, mounts, interfaces and routes with them. Files and control group folders stay, and
what of the rest can be told from the user's own is looked for all the same: `down` says nothing is left only after having looked.
A mount cannot: the cloud makes none outside its namespaces, and one on its folder is a disk that the user gave it.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from localcloud import paths, settings
from localcloud.doctor.addresses import parse_routes
from localcloud.host.state import ENVIRONMENT, LOGS
from localcloud.machine import cgroups

_ROUTES = Path("/proc/net/route")
CRASH_LOGS = paths.cache_dir() / "logs" / "last-crash"


def find() -> list[str]:
    """Everything of a cloud that is there, in words; empty when the machine is as if there had never been one."""
    found = [f"process {pid} ({_command(pid)})" for pid in sorted(cgroups.processes())]
    found += [f"control group {folder}" for folder in cgroups.folders()]
    if Path("/sys/class/net", settings.UPLINK).exists():
        found.append(f"network interface {settings.UPLINK}")
    found += [f"route to {network}" for network in _routes()]
    found += [f"file {path}" for path in (*_data(), ENVIRONMENT) if path.exists()]
    return found


def sweep(*, keep_logs: bool) -> list[str]:
    """Everything of a dead cloud is removed; returns what could not be. Call it only while holding the lock.

    `keep_logs`: the cloud died by itself, so its logs are kept in CRASH_LOGS, instead of the last ones.
    """
    for _ in range(2):  # who was being started at the first may have entered a group since
        if cgroups.folders():
            cgroups.kill()
            cgroups.remove()
    if Path("/sys/class/net", settings.UPLINK).exists():
        subprocess.run(["ip", "link", "delete", settings.UPLINK], check=False, capture_output=True)
    if keep_logs and LOGS.is_dir():
        shutil.rmtree(CRASH_LOGS, ignore_errors=True)
        CRASH_LOGS.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            shutil.move(LOGS, CRASH_LOGS)
    for path in _data():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a disk is mounted there
        paths.DATA_DIR.rmdir()
    ENVIRONMENT.unlink(missing_ok=True)
    return find()


def _data() -> list[Path]:
    """What is in the cloud's folder, but for what a file system has there of itself."""
    return sorted(path for path in paths.DATA_DIR.glob("*") if path.name != "lost+found")


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    return "ended"


def _routes() -> list[str]:
    """Networks that the host routes into the cloud, from the kernel's own table: ip(8) is not there before set-up."""
    return [str(network) for interface, network in parse_routes(_ROUTES.read_text()) if interface == settings.UPLINK]
