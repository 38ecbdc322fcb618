"""Checks what the kernel, and a container around this machine, allow: by trying it, in namespaces that end with the trial."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from localcloud import paths
from localcloud.doctor.check import MISSING, OK, SETUP, WARNING, Check
from localcloud.doctor.system import existing
from localcloud.machine.processes import effective_capabilities

_CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "NET_ADMIN": 12, "NET_RAW": 13,
    "SYS_CHROOT": 18, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "MKNOD": 27, "SETFCAP": 31,
}  # fmt: skip
_PRIVILEGED = "in a container: start it privileged; on a machine: look at `dmesg` and the kernel's configuration"
_IMAGES = "/var/lib/containers"
_TIMEOUT = 30.0
_INOTIFY = 60
"""Inotify instances of a running cloud: 21 with four nodes, twice as many when nodes are replaced."""
# Rules as kube-proxy and the CNI plugins write them, one for each kind of match and target.
_RULES = """
set -e
iptables -w -N LW
iptables -w -A LW -m comment --comment x -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -w -A LW -m mark --mark 0x4000/0x4000 -j ACCEPT
iptables -w -t nat -N LW
iptables -w -t nat -A LW -m addrtype --dst-type LOCAL -j RETURN
iptables -w -t nat -A LW -m statistic --mode random --probability 0.5 -p tcp -j DNAT --to-destination 10.0.0.1:80
iptables -w -t nat -A LW -j MARK --or-mark 0x4000
iptables -w -t nat -A POSTROUTING -j MASQUERADE --random-fully
"""
_LINKS = "ip link add lwb type bridge && ip link add lw1 type veth peer name lw2 && ip link set lw1 master lwb"


def capabilities() -> Check:
    """Check root's capabilities, because root in a container may lack some."""
    if os.geteuid() != 0:
        return _untried("capabilities")
    lacking = lacking_capabilities(Path("/proc/self/status").read_text())
    if not lacking:
        return Check("capabilities", OK, "all that are needed")
    return Check("capabilities", MISSING, f"without {', '.join(lacking)}", _PRIVILEGED)


def lacking_capabilities(status: str) -> list[str]:
    """Return the names of needed capabilities that CapEff in the text of /proc/self/status does not contain."""
    effective = effective_capabilities(status)
    return [name for name, number in _CAPABILITIES.items() if not effective >> number & 1]


def namespaces() -> Check:
    """Check that namespaces can be made: the cloud runs in its own."""
    return try_command(
        "namespaces",
        ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "true"],
        "mount, network and process namespaces work",
    )


def overlay() -> Check:
    """Check overlays, which containerd and buildah need. They do not work on another overlay, such as a container's own files."""
    place = existing(paths.DATA_DIR)
    asking = ["stat", "--file-system", "--format=%T", str(place)]
    if subprocess.run(asking, capture_output=True, text=True, timeout=_TIMEOUT, check=False).stdout.startswith("overlay"):
        volumes = f"a volume (ext4, xfs) on {paths.DATA_DIR}, and one on {_IMAGES}, where buildah would copy images whole for every layer"
        how = f"docker run -v leeward:{paths.DATA_DIR} -v leeward-images:{_IMAGES} …"
        return Check("overlayfs", MISSING, f"{place} is on an overlay itself", f"mount {volumes}; for a container: {how}")
    if os.geteuid() != 0:
        return _untried("overlayfs")
    folder = Path(tempfile.mkdtemp(prefix=".leeward-doctor-", dir=place))
    try:
        for name in ("lower", "upper", "work", "merged"):
            (folder / name).mkdir()
        layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        mounting = ["mount", "-t", "overlay", "overlay", "-o", layers, str(folder / "merged")]
        return try_command("overlayfs", ["unshare", "--mount", "--propagation", "private", *mounting], f"overlays work on {place}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def links() -> Check:
    """Check veths and bridges, which connect the nodes."""
    return try_command("veth and bridge", ["unshare", "--net", "sh", "-c", _LINKS], "both work", program="ip", package="iproute2")


def iptables() -> Check:
    """Check iptables, by which kube-proxy writes its rules."""
    works = "NAT, connection tracking and kube-proxy's matches work"
    return try_command("iptables", ["unshare", "--net", "sh", "-c", _RULES], works, program="iptables", package="iptables")


def try_command(name: str, command: Sequence[str], works: str, *, program: str = "unshare", package: str = "util-linux") -> Check:
    """Check a feature by a command that ends with 0 if it works. `program` is what the command needs, `package` contains it."""
    if os.geteuid() != 0:  # before `which`: a user's PATH has no /usr/sbin, so an installed program may not be found
        return _untried(name)
    if not shutil.which(program):
        return Check(name, SETUP, f"not tried: the package {package} will be installed")
    try:
        out = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        return Check(name, MISSING, f"`{command[0]} …` hung for {_TIMEOUT:.0f} s", _PRIVILEGED)
    if out.returncode == 0:
        return Check(name, OK, works)
    # The reason comes first: mount(8) ends with "dmesg(1) may have more information", and may also begin with it.
    reasons = [line.strip() for line in out.stderr.splitlines() if line.strip() and "dmesg" not in line]
    return Check(name, MISSING, reasons[0] if reasons else f"exit code {out.returncode}", _PRIVILEGED)


def inotify() -> Check:
    """Check that the machine's other programs (another kubelet, k3s, Docker) leave the nodes enough watchers of files."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    return judge_inotify(limit, used_inotify())


def judge_inotify(limit: int, used: int) -> Check:
    """Decide from the number of inotify instances that root may have, and that it has."""
    detail = f"{used} of {limit} inotify instances in use"
    if limit - used >= _INOTIFY:
        return Check("inotify", OK, detail)
    return Check(
        "inotify", MISSING, f"{detail}, {_INOTIFY} free ones are needed", f"sysctl fs.inotify.max_user_instances={used + 4 * _INOTIFY}"
    )


def used_inotify() -> int:
    """Count the inotify instances of all processes of root, outside of control groups of ours."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == 0 and "leeward" not in (process / "cgroup").read_text():
                count += sum(os.readlink(link) == "anon_inode:inotify" for link in (process / "fd").iterdir())
    return count


def _untried(name: str) -> Check:
    return Check(name, WARNING, "cannot be tried without being root")
