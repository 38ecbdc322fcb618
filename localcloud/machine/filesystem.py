"""What a box sees of the machine's files: everything, but in the file system at / only the cloud's own folders are writable.

Kubelet, containerd and the CNI plugins write to fixed places (/var/lib/kubelet, /var/lib/cni, /var/log/pods, ...),
and so do pods by hostPath. Each node has its own such places, below its folder, and writes to other places are
refused: nothing of a node is left on the machine after it. Other file systems (/home or /srv on a partition of their own)
are not changed: a pod that mounts such a place by hostPath writes to the machine.
"""

from __future__ import annotations

from pathlib import Path

from localcloud import paths
from localcloud.machine import cgroups

_STATE = ("kubelet", "containerd", "cni")
"""Folders below /var/lib, as on a real node."""
CHIPS = "/run/neuron"
"""Folder that build/go/neuron-device-plugin reads. AWS's plug-in reads its driver's files in /sys, which all nodes share here."""
KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""Kernel parameters that kubelet would set, for the whole machine, if they had other values. It sees files with these values."""


def read_only() -> list[list[str]]:
    """Return the mount commands of a box without pods: it writes to the cloud's folder only."""
    data = str(paths.DATA_DIR)
    return [["mount", "--bind", data, data], ["mount", "-o", "remount,bind,ro", "/"]]


def commands(folder: Path) -> list[list[str]]:
    """Return the mount commands of a node's box, and make the node's own places below `folder`."""
    for name in (*_STATE, "log", "tmp"):
        (folder / name).mkdir()
    data = str(paths.DATA_DIR)
    state = f"/run/lib/{paths.DATA_DIR.name}"
    return [
        ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
        ["mkdir", "-p", "/run/netns", "/run/containerd", state, *(f"/run/lib/{name}" for name in _STATE)],
        ["mount", "--bind", data, state],
        *(["mount", "--bind", str(folder / name), f"/run/lib/{name}"] for name in _STATE),
        ["mount", "--rbind", "/run/lib", str(paths.DATA_DIR.parent)],
        ["mount", "--bind", f"{folder}/log", "/var/log"],
        ["mount", "--bind", f"{folder}/tmp", "/tmp"],
        ["mount", "-o", "remount,bind,ro", "/"],
        *cgroups.remount(),
        *kernel_files(folder),
    ]


def kernel_files(folder: Path) -> list[list[str]]:
    """Return commands by which kubelet finds the kernel parameters it wants, without a change to the machine's kernel."""
    commands = []
    for key, value in KERNEL.items():
        shown = folder / "kernel" / key
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(f"{value}\n")
        commands.append(["mount", "--bind", str(shown), f"/proc/sys/{key}"])
    return commands


def chip_files(folder: Path, chips: int, cores: int) -> list[list[str]]:
    """Return commands that show the node's device plug-in its Neuron chips: one file per chip in CHIPS, with its number of cores."""
    shown = folder / "neuron"
    shown.mkdir()
    for number in range(chips):
        (shown / f"neuron{number}").write_text(f"{cores // chips}\n")
    return [["mkdir", CHIPS], ["mount", "--bind", str(shown), CHIPS]]
