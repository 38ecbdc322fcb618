"""A node's containerd: its configuration, in the format of the machine's version, and its images."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from localcloud import settings
from localcloud.machine.interface import MachineError
from localcloud.machine.processes import effective_capabilities, run_command

CNI_PLUGINS = ("/usr/lib/cni", "/opt/cni/bin")
"""Folders of CNI plugins: Debian's, and that of the plugins' own releases."""
SOCKET = "/run/containerd/containerd.sock"
"""Path of containerd's socket inside a node, which has a /run of its own."""
_IMPORT_WITHIN = 120.0
_COMMON = f"""root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{SOCKET}"
"""
_CAP_SYS_RESOURCE = 24


@functools.cache
def major_version() -> int:
    """Return 1 or 2: the configuration's format depends on it."""
    output = run_command(["containerd", "--version"])
    match = re.search(r"\s[v]?(\d+)\.\d+", output)
    if match is None:
        raise MachineError(f"cannot tell containerd's version from: {output.strip()}")
    return int(match[1])


def may_lower_oom_score() -> bool:
    """Return whether this process has CAP_SYS_RESOURCE. Without it runc fails when it has to protect a container from the OOM killer."""
    return bool(effective_capabilities(Path("/proc/self/status").read_text()) >> _CAP_SYS_RESOURCE & 1)


def plugins_folder() -> str:
    """Return the folder of the CNI plugins; MachineError when there is none."""
    for folder in CNI_PLUGINS:
        if Path(folder, "ptp").exists():
            return folder
    raise MachineError(f"no CNI plugin `ptp` in {' or '.join(CNI_PLUGINS)}: apt install containernetworking-plugins")


def write_config(folder: Path, pod_network: str) -> Path:
    """Write the configuration of containerd, the registry and the pods' network into the node's folder; return the path of the first."""
    hosts = folder / "registries" / settings.REGISTRY
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(_hosts())
    network = folder / "network"
    network.mkdir()
    (network / "10-ptp.conflist").write_text(_pod_network(pod_network))
    text = _config_v2 if major_version() == 1 else _config_v3
    config = folder / "containerd.toml"
    config.write_text(text(folder, not may_lower_oom_score()))
    return config


def _config_v2(folder: Path, restrict_oom: bool) -> str:
    """Return the configuration in the format of containerd 1.x."""
    return f"""version = 2
{_COMMON}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{settings.PAUSE_IMAGE}"
  restrict_oom_score_adj = {str(restrict_oom).lower()}
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins_folder()}"
    conf_dir = "{folder}/network"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def _config_v3(folder: Path, restrict_oom: bool) -> str:
    """Return the configuration in the format of containerd 2.x, which separates images from the runtime."""
    return f"""version = 3
{_COMMON}
[plugins."io.containerd.cri.v1.images"]
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{settings.PAUSE_IMAGE}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{folder}/registries"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = {str(restrict_oom).lower()}
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dir = "{plugins_folder()}"
    conf_dir = "{folder}/network"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def _hosts() -> str:
    url = f"http://{settings.REGISTRY}"
    return f'server = "{url}"\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'


def _pod_network(network: str) -> str:
    """Return a CNI configuration of routed point-to-point links: pods have real addresses, and the kernel needs no bridge filtering."""
    return f"""{{"cniVersion": "0.4.0", "name": "pods", "plugins": [
 {{"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {{"type": "host-local", "dataDir": "/var/lib/cni/networks",
   "ranges": [[{{"subnet": "{network}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
 {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"""


def import_images(socket: Path, images: Sequence[Path]) -> None:
    """Import the archives into this containerd, in the namespace where Kubernetes looks for images."""

    def one(image: Path) -> None:
        run_command(["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import", str(image)], within=_IMPORT_WITHIN)

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(one, images))


def socket_seen_from_outside(pid: int) -> Path:
    """Path of a node's containerd socket as seen from here; `pid` is process 1 of the node's box."""
    return Path(f"/proc/{pid}/root{SOCKET}")
