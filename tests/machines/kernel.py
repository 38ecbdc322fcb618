"""A User-Mode Linux kernel, compiled from Debian's source: Linux as a process, for a machine that needs no virtualisation.

Debian's own `user-mode-linux` is built without cpusets and without IPv4 in nf_tables, so kubelet does not run on it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from localcloud.build import debian
from localcloud.build.baseimage import KEYRING
from localcloud.build.cache import Recipe, Workspace
from localcloud.build.command import BuildError, run_logged
from localcloud.progress import Report
from scripts.support.paths import LOGS

SUITE = "testing"
"""Debian's release with a new enough kernel: User-Mode Linux has several processors since 6.19, and seccomp since 6.16."""
PACKAGES = ("bc", "bison", "build-essential", "flex", "xz-utils")
DEFCONFIG = "x86_64_defconfig"
OPTIONS = {
    "control groups": "MEMCG CFS_BANDWIDTH CGROUP_PIDS CPUSETS CGROUP_BPF CGROUP_MISC BPF_SYSCALL PSI",
    "containers, systemd": "USER_NS PID_NS CHECKPOINT_RESTORE KEYS EXPERT FANOTIFY",
    "file systems": "TMPFS_POSIX_ACL EXT4_FS_POSIX_ACL EXT4_FS_SECURITY OVERLAY_FS FUSE_FS",
    "processors": "SMP",
    "devices": "UML_NET_VECTOR VETH BRIDGE VXLAN VLAN_8021Q",
    "routes": "IPV6 IP_ADVANCED_ROUTER IP_MULTIPLE_TABLES",
    "nf_tables": """NETFILTER NF_CONNTRACK NF_CT_NETLINK NF_TABLES NF_TABLES_INET NF_TABLES_NETDEV NFT_CT NFT_MASQ NFT_NAT NFT_REDIR
        NFT_REJECT NFT_COMPAT NFT_LIMIT NFT_LOG NFT_HASH NFT_NUMGEN NFT_FIB_IPV4 NFT_FIB_IPV6""",
    "iptables and kube-proxy": """NETFILTER_XTABLES_LEGACY IP_NF_IPTABLES IP_NF_NAT IP_NF_RAW IP_NF_TARGET_REJECT IP6_NF_IPTABLES IP6_NF_NAT
        IP6_NF_TARGET_REJECT IP_SET IP_SET_HASH_IP IP_SET_HASH_NET NETFILTER_XT_CONNMARK NETFILTER_XT_SET NETFILTER_XT_TARGET_MASQUERADE
        NETFILTER_XT_TARGET_REDIRECT NETFILTER_XT_TARGET_LOG NETFILTER_XT_TARGET_NFLOG NETFILTER_XT_TARGET_CT NETFILTER_XT_TARGET_TCPMSS
        NETFILTER_XT_MATCH_ADDRTYPE NETFILTER_XT_MATCH_COMMENT NETFILTER_XT_MATCH_CONNTRACK NETFILTER_XT_MATCH_STATE NETFILTER_XT_MATCH_MARK
        NETFILTER_XT_MATCH_MULTIPORT NETFILTER_XT_MATCH_NFACCT NETFILTER_XT_MATCH_RECENT NETFILTER_XT_MATCH_STATISTIC
        NETFILTER_XT_MATCH_LIMIT""",
}
"""Options that are added to User-Mode Linux's own configuration, by what needs them."""
LEFT_OUT = ("MODULES", "HOSTFS", "SOUND", "WIRELESS", "WLAN")
"""Options that are off. Without modules everything is built in; without hostfs the machine cannot reach the host's files."""
PATCHES = (
    # A tap has no packet queues, but their locks are taken: that crashes with more than one processor.
    (
        "arch/um/drivers/vector_kern.c",
        r"^(\t+)(spin_(?:un)?lock)\(&vp->(rx|tx)_queue->head_lock\);",
        r"\1if (vp->\3_queue) \2(&vp->\3_queue->head_lock);",
    ),
    # Kubelet does not start if /proc/cpuinfo has no clock speed.
    (
        "arch/um/kernel/um_arch.c",
        r'^(\t+)seq_printf\(m, "bogomips',
        r'\1seq_puts(m, "cpu MHz\\t\\t: 2000.000\\n");\n\g<0>',
    ),
)
"""Changes to the kernel's source: file, pattern and replacement."""


def recipe() -> Recipe:
    """Return how to make the kernel. Its version is not an input: it is the suite's newest when it is made, and then kept.

    Raises:
        BuildError: there is no User-Mode Linux for this processor.
    """
    if platform.machine() != "x86_64":
        raise BuildError(f"User-Mode Linux runs on x86-64 only, and this machine is {platform.machine()}")
    # The last name is an old word for patches. Another name would change the key, and the same kernel would be compiled again.
    inputs = {"suite": SUITE, "base": DEFCONFIG, "options": wanted_lines(), "mends": repr(PATCHES)}
    return Recipe("kernel", tuple(inputs.items()), _make)


def _make(work: Workspace, report: Report) -> None:
    log = LOGS / "machine-kernel.log"
    log.unlink(missing_ok=True)
    archive = _download(work.scratch, log, report)
    source = work.scratch / "source"
    source.mkdir()
    unpack = ["tar", "-C", str(source), "--strip-components=1", "-xf", str(archive)]
    run_logged(unpack, what="unpacking the kernel", log=log, report=report, deadline=600, doing="unpacking")
    for file, pattern, replacement in PATCHES:
        (source / file).write_text(patched((source / file).read_text(), pattern, replacement, file))
    make = ["make", "-C", str(source), "ARCH=um"]
    run_logged([*make, DEFCONFIG], what="configuring the kernel", log=log, report=report, deadline=300)
    config = source / ".config"
    config.write_text(config.read_text() + wanted_lines())
    run_logged([*make, "olddefconfig"], what="configuring the kernel", log=log, report=report, deadline=300)
    if lost := missing(config.read_text()):
        raise BuildError(f"this kernel source has no {', '.join(lost)}: their names or dependencies have changed")
    run_logged(
        [*make, f"-j{os.cpu_count() or 1}", "linux"],
        what="compiling the kernel",
        log=log,
        report=report,
        deadline=3600,
        follow=compile_counter(),
    )
    shutil.copy2(source / "linux", work.out / "linux")


def _download(folder: Path, log: Path, report: Report) -> Path:
    """Download the source with package lists of this folder's own: the host's apt does not have the suite, and is not changed."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {debian.mirrors().main} {SUITE} main\n")
    places = {"Etc::SourceList": "sources.list", "State::Lists": "lists", "Cache": "cache"}
    options = [f"-oDir::{name}={folder / place}" for name, place in places.items()]
    options += ["-oDir::Etc::SourceParts=/dev/null", "-oAPT::Sandbox::User=root"]
    run_logged(["apt-get", *options, "update"], what="reading the package lists", log=log, report=report, deadline=300)
    package = newest_package(debian.query("apt-cache", *options, "search", "--names-only", r"^linux-source-[0-9.]+$"))
    report(f"downloading {package}")
    run_logged(["apt-get", *options, "download", package], what=f"downloading {package}", log=log, report=report, deadline=900, cwd=folder)
    run_logged(
        ["dpkg-deb", "-x", *map(str, folder.glob("*.deb")), str(folder / "package")], what="unpacking", log=log, report=report, deadline=300
    )
    return next(folder.glob("package/usr/src/*.tar.xz"))


def newest_package(listing: str) -> str:
    """Return the package of the newest kernel in lines of "linux-source-7.2 - description".

    Raises:
        BuildError: there is no such package.
    """
    names = re.findall(r"^(linux-source-([\d.]+)) ", listing, re.MULTILINE)
    if not names:
        raise BuildError(f"Debian {SUITE} has no package linux-source-VERSION: look at the mirror")
    name: str = max(names, key=lambda found: [int(part) for part in found[1].split(".")])[0]
    return name


def patched(text: str, pattern: str, replacement: str, file: str) -> str:
    """Return the source with every match of the pattern replaced.

    Raises:
        BuildError: the pattern does not match anywhere.
    """
    after, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
    if not count:
        raise BuildError(
            f"{file} of the kernel no longer has what has to be changed in it ({pattern}): see whether the change is still needed"
        )
    return after


def wanted() -> list[str]:
    """Return the names of all options that must be on."""
    return " ".join(OPTIONS.values()).split()


def wanted_lines() -> str:
    """Return lines that are appended to a .config and override it."""
    on = [f"CONFIG_{name}=y" for name in wanted()]
    off = [f"# CONFIG_{name} is not set" for name in LEFT_OUT]
    return "\n".join([*on, *off, "CONFIG_NR_CPUS=4", "CONFIG_DEBUG_INFO_NONE=y", ""])


def missing(config: str) -> list[str]:
    """Return the wanted options that a finished .config does not have."""
    on: Iterable[str] = set(re.findall(r"^CONFIG_(\w+)=y$", config, re.MULTILINE))
    return [name for name in wanted() if name not in on]


def compile_counter() -> Callable[[str], str]:
    """Return a function that counts the compiled files in make's output."""
    compiled = 0

    def follow(line: str) -> str:
        nonlocal compiled
        compiled += line.lstrip().startswith("CC ")
        return f"compiled {compiled} files of about 1200"

    return follow
