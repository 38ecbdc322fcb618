"""The Debian packages that the embedded cloud runs on: only the missing ones are installed, and no daemon starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from localcloud import paths
from localcloud.build import debian
from localcloud.build.cache import lock
from localcloud.build.command import BuildError, new_log, run_logged
from localcloud.progress import Report

PACKAGES = (
    "buildah",
    "busybox-static",
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "debian-archive-keyring",
    "docker-registry",
    "iproute2",
    "iptables",
    "iputils-arping",
    "kmod",
    "mmdebstrap",
    "procps",
    "redis-server",
    "runc",
    "util-linux",
)
_INSTEAD = {"containerd": "containerd.io", "runc": "containerd.io"}
"""Packages that may be installed instead: Docker's own contains both and conflicts with Debian's."""
_KEYRING = "debian-archive-keyring"
_NEW_KEYS = tuple(Path(f"/usr/share/keyrings/debian-archive-trixie-automatic.{kind}") for kind in ("gpg", "pgp"))
_DAEMONS = ("containerd.service", "docker-registry.service", "redis-server.service")
_POLICY = Path("/usr/sbin/policy-rc.d")
_FORBIDDING = "#!/bin/sh\nexit 101\n"
_PLACEHOLDER = "#!/bin/sh\n# Left by a `python -m localcloud build` that was killed; it forbids nothing and may be deleted.\nexit 0\n"
_DEADLINE = 1800.0
_OPTIONS = (
    "-o", "DPkg::Lock::Timeout=600",
    "-o", "Acquire::Retries=3",
    "-o", "Dpkg::Use-Pty=0",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
)  # fmt: skip


def missing() -> tuple[str, ...]:
    """Return the packages that are not installed, or too old: Debian 12's first keyring does not have trixie's keys."""
    listing = debian.query("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
    absent = absent_from(listing, PACKAGES)
    if _KEYRING not in absent and not any(keys.exists() for keys in _NEW_KEYS):
        absent = (*absent, _KEYRING)
    return absent


def absent_from(listing: str, wanted: Iterable[str]) -> tuple[str, ...]:
    """Return those of `wanted` that dpkg's lines of "package status" do not show as installed."""
    installed = {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
    return tuple(name for name in wanted if name not in installed and _INSTEAD.get(name) not in installed)


def install(report: Report) -> bool:
    """Install the missing packages; return whether there were any. BuildError when apt fails or this is not root."""
    if not (wanted := missing()):
        return False
    if os.geteuid() != 0:
        raise BuildError(f"these Debian packages are missing: run as root, or: apt-get install {' '.join(wanted)}")
    with lock(paths.cache_dir() / ".packages.lock", report):
        if wanted := missing():
            _install_missing(wanted, report)
    return True


def _install_missing(wanted: Sequence[str], report: Report) -> None:
    log = new_log("packages")
    report(f"installing {' '.join(wanted)}")
    if debian.query("dpkg", "--audit").strip():
        _apt(["dpkg", "--configure", "-a"], "finishing an interrupted installation", log, report)
    _apt_install(wanted, log, report)
    _disable_daemons(wanted, log, report)
    if still := missing():
        raise BuildError(f"apt-get ended well, but these packages are still missing: {' '.join(still)}. Its log: {log}")


def _apt_install(wanted: Sequence[str], log: Path, report: Report) -> None:
    command = ["apt-get", "install", "--yes", "--no-remove", "--no-install-recommends", *_OPTIONS, *wanted]
    # A keyring that is too old counts as missing. Only new package lists contain its newer version.
    fresh = _KEYRING in wanted or not _have_candidates(wanted)
    if fresh:
        _update(log, report)
    try:
        _without_daemons(command, log, report)
    except BuildError as error:
        if fresh:
            raise
        # The lists may be older than the mirror's packages.
        report(f"trying again with fresh package lists: {str(error).splitlines()[0]}")
        _update(log, report)
        _without_daemons(command, log, report)


def _have_candidates(wanted: Sequence[str]) -> bool:
    """Return whether apt's lists contain every package."""
    policy = debian.query("apt-cache", "policy", *wanted)
    return policy.count("Candidate:") == len(wanted) and "Candidate: (none)" not in policy


def _update(log: Path, report: Report) -> None:
    _apt(["apt-get", "update", *_OPTIONS], "updating the package lists", log, report)


def _apt(command: Sequence[str], what: str, log: Path, report: Report) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "NEEDRESTART_MODE": "l"}
    # Not interruptible: if dpkg is stopped half-way, the machine's packages are half configured.
    run_logged(
        command,
        what=what,
        log=log,
        report=report,
        deadline=_DEADLINE,
        follow=lambda line: line.strip()[:70],
        env=environment,
        interruptible=False,
    )


def _without_daemons(command: Sequence[str], log: Path, report: Report) -> None:
    """Run apt where /usr/sbin/policy-rc.d forbids every start of a daemon.

    The forbidding file is mounted over the machine's in a mount namespace of this command, so there is nothing to
    restore if this process is killed. A machine without such a file gets one that forbids nothing, for the mount.
    """
    forbidding = paths.cache_dir() / "policy-rc.d"
    _write_script(forbidding, _FORBIDDING)
    if not _POLICY.exists():
        _write_script(_POLICY, _PLACEHOLDER)
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(forbidding), str(_POLICY), *command]
    try:
        _apt(inside, "installing Debian packages", log, report)
    finally:
        if _POLICY.exists() and _POLICY.read_text() == _PLACEHOLDER:
            _POLICY.unlink()


def _write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _disable_daemons(installed: Sequence[str], log: Path, report: Report) -> None:
    """Keep the daemons of the new packages from starting at the machine's next boot; the cloud starts its own."""
    ours = [unit for unit in _DAEMONS if unit.removesuffix(".service") in installed]
    if ours and shutil.which("systemctl"):
        _apt(["systemctl", "disable", *ours], "keeping the packages' daemons off", log, report)
