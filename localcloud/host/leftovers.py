"""Find and remove what a cloud leaves on the host when it is gone.

Processes, mounts, interfaces and routes go with its namespaces. Files and control group folders stay. `down` reports
that nothing is left only after it has looked for everything that can be told from the user's own. A mount cannot be:
the cloud makes none outside its namespaces, and a mount on its folder is a disk that the user gave it.
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
    """Describe everything of a cloud that is on the machine; empty when nothing is."""
    found = [f"process {pid} ({_command(pid)})" for pid in sorted(cgroups.processes())]
    found += [f"control group {folder}" for folder in cgroups.folders()]
    if Path("/sys/class/net", settings.UPLINK).exists():
        found.append(f"network interface {settings.UPLINK}")
    found += [f"route to {network}" for network in _routes()]
    found += [f"file {path}" for path in (*_data(), ENVIRONMENT) if path.exists()]
    return found


def sweep(*, keep_logs: bool) -> list[str]:
    """Remove everything of a dead cloud; return what could not be removed. The caller must hold the lock.

    `keep_logs`: the cloud died by itself, so its logs are moved to CRASH_LOGS and replace those of an earlier crash.
    """
    for _ in range(2):  # a process that was being started during the first round may have entered a group since
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
    """Paths in the cloud's folder, except what every ext4 file system has in its root."""
    return sorted(path for path in paths.DATA_DIR.glob("*") if path.name != "lost+found")


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    return "ended"


def _routes() -> list[str]:
    """Networks that the host routes into the cloud, from the kernel's own table: ip(8) may not be installed before set-up."""
    return [str(network) for interface, network in parse_routes(_ROUTES.read_text()) if interface == settings.UPLINK]
