"""What a cloud leaves on the host when it is gone, found and removed.

Its namespaces take processes, mounts, interfaces and routes with them. Files and control group folders stay, and
the rest is looked for all the same: `down` says nothing is left only after having looked.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from localcloud import cgroups, paths, settings
from localcloud.state import ENVIRONMENT, LOGS

CRASH_LOGS = paths.cache_dir() / "logs" / "last-crash"


def find() -> list[str]:
    """Everything of a cloud that is there, in words; empty when the machine is as if there had never been one."""
    found = [f"process {pid} ({_command(pid)})" for pid in sorted(cgroups.processes())]
    found += [f"control group {folder}" for folder in cgroups.folders()]
    found += [f"mount {line.split()[1]}" for line in _mounts() if str(paths.DATA_DIR) in line]
    if Path("/sys/class/net", settings.UPLINK).exists():
        found.append(f"network interface {settings.UPLINK}")
    found += [f"route to {network}" for network in settings.ROUTES if _routed(network)]
    found += [f"file {path}" for path in (paths.DATA_DIR, ENVIRONMENT) if path.exists()]
    return found


def sweep(*, keep_logs: bool) -> list[str]:
    """Everything of a dead cloud is removed; returns what could not be. Call it only while holding the lock.

    `keep_logs`: the cloud died by itself, so its logs are kept in CRASH_LOGS, instead of the last ones.
    """
    if cgroups.folders():
        cgroups.kill()
        cgroups.remove()
    for line in reversed(_mounts()):
        if str(paths.DATA_DIR) in line:
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False, capture_output=True)
    if Path("/sys/class/net", settings.UPLINK).exists():
        subprocess.run(["ip", "link", "delete", settings.UPLINK], check=False, capture_output=True)
    if keep_logs and LOGS.is_dir():
        shutil.rmtree(CRASH_LOGS, ignore_errors=True)
        CRASH_LOGS.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            shutil.move(LOGS, CRASH_LOGS)
    shutil.rmtree(paths.DATA_DIR, ignore_errors=True)
    ENVIRONMENT.unlink(missing_ok=True)
    return find()


def _mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    return "ended"


def _routed(network: str) -> bool:
    shown = subprocess.run(["ip", "route", "show", network], check=False, capture_output=True, text=True)
    return settings.UPLINK in shown.stdout
