"""The machine's disk: Debian with systemd, this project, and everything that this host's set-up has made already.

Debian itself comes from the cache. The disk is made for each machine, in an unlinked file.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO

from localcloud.build import baseimage, debian, packages, toolchain
from localcloud.build.cache import Cache, Recipe, Workspace
from localcloud.build.command import BuildError, run_logged
from localcloud.paths import artifacts_dir, cache_dir
from localcloud.progress import Report
from scripts import tools
from scripts.support.paths import LOGS, ROOT
from tasks.terraform.mirror import mirror

PACKAGES = (
    *packages.PACKAGES,
    "dbus", "git", "libpam-systemd", "openssh-server", "python3-venv", "systemd", "systemd-sysv", "udev",
)  # fmt: skip
"""The cloud's packages, so that nothing has to be installed in the machine, and those of a machine with systemd."""
SIZE_GB, FREE_GB = 40, 20
"""Size of the sparse disk, and the space that must be free for what will be written to it."""
PROJECT = Path("/root/leeward")
"""The project's folder in the machine."""
ADDRESS, GATEWAY, RESOLVER = "10.0.2.100", "10.0.2.2", "10.0.2.3"
"""Addresses in slirp4netns's own network, 10.0.2.0/24."""
FILES = {
    "etc/hostname": "machine\n",
    "etc/hosts": "127.0.0.1 localhost machine\n",
    "etc/resolv.conf": f"nameserver {RESOLVER}\n",
    "etc/fstab": "/dev/ubda / ext4 defaults 0 1\n",
    "etc/systemd/network/outside.network": f"[Match]\nName=vec*\n[Network]\nAddress={ADDRESS}/24\nGateway={GATEWAY}\n",
    # Only root of this host can reach sshd: it listens in a network namespace of its own.
    "etc/ssh/sshd_config.d/open.conf": "PermitRootLogin yes\nPermitEmptyPasswords yes\n",
}
SETTINGS = (
    "systemctl enable systemd-networkd ssh",
    "systemctl disable containerd docker-registry redis-server apt-daily.timer apt-daily-upgrade.timer",
    "systemctl mask systemd-networkd-wait-online",
    "passwd --delete root",
)
"""Commands that are run in the new root file system."""
REACHING = re.compile(r"(PIP|UV)_\w+|GO\w*(PROXY|SUMDB)|\w*(CERT|SSL|CA_BUNDLE)\w*|\w+_PROXY", re.IGNORECASE)
"""Variables by which programs of this host reach the package registries."""

_FILL = """
set -euo pipefail
disk=$1 root=$2 files=$3; shift 3
echo making the file system
mkfs.ext4 -q -F "$disk"
mount -o loop "$disk" /mnt
echo unpacking Debian
tar -C /mnt --numeric-owner -xpf "$root"
while [ $# -gt 0 ]; do
  echo "copying $1"
  mkdir -p "/mnt$2"
  { tar -C "$1" -cf - $3 || [ $? = 1 ]; } | tar -C "/mnt$2" -xpf -  # 1: a file changed meanwhile, as caches may
  shift 3
done
tar -C /mnt --no-same-owner -xf "$files"
chroot /mnt update-ca-certificates
echo writing
umount /mnt
"""


def root(report: Report) -> Path:
    """Return the archive of a Debian of this host's own release, so that the keys of its caches are valid in the machine too.

    Raises:
        BuildError: the archive could not be made.
    """
    suite, mirrors = debian.os_release().get("VERSION_CODENAME", ""), debian.mirrors()
    lines = [f"deb {mirrors.main} {suite} main"] + ([f"deb {mirrors.security} {suite}-security main"] if mirrors.security else [])
    inputs = {
        "sources": "\n".join(lines),
        "packages": " ".join(PACKAGES),
        "files": repr(sorted(FILES.items())),
        "settings": "\n".join(SETTINGS),
    }

    def make(work: Workspace, report: Report) -> None:
        conf, files = work.scratch / "apt.conf", work.scratch / "files"
        conf.write_text("".join(f"{name} {baseimage.quote(value)};\n" for name, value in debian.options().items()))
        for name, text in FILES.items():
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            (files / name).write_text(text)
        hooks = [f"sync-in {files} /", *(f'chroot "$1" {command}' for command in SETTINGS)]
        hooks.append('rm -f "$1/usr/sbin/policy-rc.d" "$1/etc/apt/apt.conf.d/99mmdebstrap"')
        command = ["mmdebstrap", "--variant=minbase", f"--aptopt={conf}", f"--include={','.join(PACKAGES)}"]
        command += [f"--customize-hook={hook}" for hook in hooks]
        command += [suite, str(work.out / "root.tar"), *lines]
        log = LOGS / "machine-root.log"
        log.unlink(missing_ok=True)
        environment = {**os.environ, "TMPDIR": str(work.scratch), "LC_ALL": "C"}
        run_logged(command, what="making a Debian", log=log, report=report, deadline=1200, follow=_status, env=environment)

    recipe = Recipe("root", tuple(inputs.items()), make)
    return Cache(cache_dir() / "machines").get(recipe, report).path / "root.tar"


def _status(line: str) -> str:
    return line.removeprefix("I: ").strip()[:70]


def fill(disk: BinaryIO, archive: Path, contained: Sequence[str], report: Report) -> None:
    """Write everything to the disk. `contained` is a command prefix; processes and mounts of such a command end with this process.

    Raises:
        BuildError: the disk could not be filled, or this host has no room for it.
    """
    free = shutil.disk_usage(cache_dir()).free / 2**30
    if free < FREE_GB:
        raise BuildError(f"the machine's disk needs {FREE_GB} GB beside {cache_dir()}, and {free:.0f} GB are free")
    os.truncate(disk.fileno(), SIZE_GB << 30)
    copies = [text for source, target, what in _copies() if source.is_dir() for text in (str(source), str(target), what)]
    log = LOGS / "machine-disk.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as files:
        _pack(files)
        script = [*contained, "bash", "-c", _FILL, "fill", unlinked_path(disk), str(archive), unlinked_path(files)]
        run_logged(
            [*script, *copies], what="filling the disk", log=log, report=report, deadline=1200, follow=lambda line: line.strip()[:70]
        )


def unlinked_path(file: IO[bytes]) -> str:
    """Return a path by which other programs of this host can open an unlinked file."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _copies() -> Iterator[tuple[Path, Path, str]]:
    """Folders of this host, their places in the machine, and tar's arguments that select what is copied."""
    home = Path("/root/.cache")
    yield ROOT, PROJECT, "--exclude=./.git --exclude-vcs-ignores ."
    yield Path("/usr/local/share/ca-certificates"), Path("/usr/local/share/ca-certificates"), "."
    yield cache_dir(), home / "leeward", "--exclude=./machines --exclude=./demo.lock ."
    yield Path(debian.query(str(tools.uv()), "cache", "dir").strip()), home / "uv", "."
    yield Path("/var/lib/containers"), Path("/var/lib/containers"), "."
    yield tools.terraform().parent, Path("/usr/local/bin"), "terraform"
    if providers := mirror():
        yield providers, Path("/opt/terraform"), "."
    go = toolchain.find(Cache(artifacts_dir()))
    if go.recipe is None:
        yield go.binary.resolve().parent.parent, Path("/usr/local/go"), "."


def _pack(file: IO[bytes]) -> None:
    """Write an archive of the settings by which this host reaches the package registries, so that the machine does too."""
    variables = {name: value for name, value in os.environ.items() if REACHING.fullmatch(name)}
    texts = {
        "etc/environment": "".join(f"{name}={value}\n" for name, value in variables.items()),
        "etc/apt/apt.conf.d/90host": "".join(f"{name} {baseimage.quote(value)};\n" for name, value in debian.options().items()),
    }
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    file.flush()
