"""The base of the serving image: a small Debian made from packages, for machines that reach a mirror but no image registry.

It replaces docker.io/library/debian:trixie-slim, and has its name inside the archive.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from localcloud import paths, settings
from localcloud.build import debian
from localcloud.build.cache import Recipe, Workspace, digest
from localcloud.build.command import run_logged
from localcloud.build.debian import Mirrors
from localcloud.build.images import ARCHIVE, write_archive
from localcloud.progress import Report

NAME = "base-image"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""Path of Debian's keys, on the machine and in the image."""
_DEADLINE = 900.0
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
"""Files that Debian's slim images leave out too; dpkg leaves them out of packages that are installed later as well."""
_KEPT = "/usr/share/doc/*/copyright"
_APT_CONFIG = (
    'Apt::AutoRemove::SuggestsImportant "false";',
    'Acquire::Languages "none";',
    'Dir::Cache::pkgcache "";',  # 87 MB that the next apt-get update makes again
    'Dir::Cache::srcpkgcache "";',
)


def recipe() -> Recipe:
    """Return how to make the image. It depends on the machine's mirror, because the image uses that mirror later."""
    mirrors = debian.mirrors()
    here = Path(__file__)
    inputs = {
        "sources": "\n".join(sources(mirrors)),
        "name": settings.BASE_IMAGE,
        "machine": platform.machine(),
        "maker": digest([here, here.with_name("images.py")], here.parent),
    }
    return Recipe(NAME, tuple(inputs.items()), lambda work, report: _make(mirrors, work, report))


def sources(mirrors: Mirrors) -> list[str]:
    """Return the image's lines of sources.list."""
    suite, signed = settings.DEBIAN_SUITE, f"[signed-by={KEYRING}]"
    lines = [f"deb {signed} {mirrors.main} {suite} main", f"deb {signed} {mirrors.main} {suite}-updates main"]
    return lines + ([f"deb {signed} {mirrors.security} {suite}-security main"] if mirrors.security else [])


def _make(mirrors: Mirrors, work: Workspace, report: Report) -> None:
    log = paths.build_logs_dir() / f"{NAME}.log"
    log.unlink(missing_ok=True)
    layer = work.scratch / "layer.tar"
    image_config, build_config = work.scratch / "90small", work.scratch / "machine.conf"
    image_config.write_text("\n".join(_APT_CONFIG) + "\n")
    build_config.write_text("\n".join([*_APT_CONFIG, *(f"{name} {quote(value)};" for name, value in debian.options().items())]) + "\n")
    command = arguments(mirrors, layer, image_config, build_config)
    environment = {**os.environ, "TMPDIR": str(work.scratch), "LC_ALL": "C"}
    run_logged(command, what="making the base image", log=log, report=report, deadline=_DEADLINE, follow=_status, env=environment)
    config = {"Cmd": ["bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    write_archive(work.out / ARCHIVE, settings.BASE_IMAGE, layer, config)


def arguments(mirrors: Mirrors, layer: Path, image_config: Path, build_config: Path) -> list[str]:
    """Return the command that writes the image's only layer.

    `image_config` is apt's configuration in the image, `build_config` the one while the image is made. This machine's proxy, which may
    contain a password, is in the second: not among the arguments, which every user can read, and not in the image.
    """
    command = ["mmdebstrap", "--variant=minbase", "--format=tar", f"--keyring={KEYRING}", f"--aptopt={build_config}"]
    command += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT] + [f"--dpkgopt=path-include={_KEPT}"]
    if any(mirror and mirror.startswith("https:") for mirror in (mirrors.main, mirrors.security)):
        command.append("--include=ca-certificates")
    command.append('--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"')
    command.append(f"--customize-hook=upload {image_config} /etc/apt/apt.conf.d/{image_config.name}")
    return [*command, settings.DEBIAN_SUITE, str(layer), *sources(mirrors)]


def quote(value: str) -> str:
    """Quote a value for apt.conf."""
    return '"' + value.replace('"', "%22") + '"'


def _status(line: str) -> str:
    return line.removeprefix("I: ").strip()[:70]
