"""Finds what Leeward has left on this machine, independently of its own clean-up code."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from localcloud.paths import cache_dir
from scripts.support.paths import PREFECT_HOME, ROOT, RUN, TEMPORARY

NETWORKS = ("10.213.", "10.214.", "172.20.")
FOLDERS = (Path("/var/lib/leeward"), Path("/run/leeward/environment.json"), RUN, PREFECT_HOME, TEMPORARY)


def find_leftovers() -> list[str]:
    """Describe everything that a demo or a cloud must not leave behind; caches, logs and evidence are meant to stay."""
    return [*_processes(), *_mounts(), *_network(), *_control_groups(), *(f"folder {folder}" for folder in FOLDERS if folder.exists())]


def command_line(pid: int) -> str:
    """Return the command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _processes() -> Iterator[str]:
    """Yield the processes that run a binary of Leeward's or Prefect of its environment, or work in the cloud's folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            program, folder = os.readlink(entry / "exe"), os.readlink(entry / "cwd")
        except OSError:
            continue
        command = command_line(int(entry.name))
        of_leeward = program.startswith(str(cache_dir())) or folder.startswith("/var/lib/leeward")
        if (
            of_leeward
            or ("prefect" in command and str(ROOT) in command)
            or "localcloud supervise" in command
            or "scripts.services.pid1" in command
        ):
            yield f"process {entry.name}: {command[:120]}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if "leeward" in line.split()[1]:
            yield f"mount {line}"


def _network() -> Iterator[str]:
    for command in (["ip", "-brief", "address"], ["ip", "route"], ["ip", "netns", "list"], ["iptables-save"]):
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
            if "leeward" in line or any(network in line for network in NETWORKS):
                yield f"{command[0]}: {line}"


def _control_groups() -> Iterator[str]:
    for pattern in ("leeward*", "*/leeward*"):
        yield from (f"control group {path}" for root in _ROOTS for path in root.glob(pattern))
    yield from (f"control group {path}" for path in _kubernetes_groups() - _EXISTED_BEFORE)


def _kubernetes_groups() -> frozenset[Path]:
    """Return the control groups with names that containerd and kubelet use."""
    return frozenset(path for root in _ROOTS for name in ("kubepods*", "k8s.io") for path in [*root.glob(name), *root.glob(f"*/{name}")])


_ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_EXISTED_BEFORE = _kubernetes_groups()
"""Control groups that existed before any cloud: another containerd on this machine may have some too."""
