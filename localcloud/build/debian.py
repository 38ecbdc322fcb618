"""The sources of the machine's apt: the mirror and the proxy that other Debian root file systems should use as well."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud.build.command import BuildError

OLDEST = 12
_SUITES = ("stable", "oldstable", "testing")
"""Names that a release may have in apt's sources instead of its code name."""
_KEPT_OPTIONS = (
    "Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CAInfo", "Acquire::Check-Valid-Until", "Acquire::Check-Date"
)  # fmt: skip
"""Options that decide how this machine reaches its mirror, and which of its faults it accepts."""


@dataclass(frozen=True)
class Mirrors:
    """URLs of Debian's packages."""

    main: str
    security: str | None
    """URL of security updates; None when the machine has no source of them."""


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Parse os-release into its fields; empty when there is no such file."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    pairs = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    return {name: value.strip().strip("\"'") for name, value in pairs}


def refusal(release: Mapping[str, str]) -> str | None:
    """Return what to use instead of the system with these fields of os-release; None for a Debian that is new enough."""
    if release.get("ID") != "debian":
        return (
            f"use Debian {OLDEST} or newer itself: its packages are needed under their names and in their versions, "
            "and from its mirrors, as this machine's apt has them, the base of the service's image is made"
        )
    version = release.get("VERSION_ID", "")  # testing has none
    if version.isdigit() and int(version) < OLDEST:
        return f"use Debian {OLDEST} or newer: its containerd and buildah are too old"
    return None


def query(*argv: str) -> str:
    """Run a quick query of an apt or dpkg program; return its output, in English."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        out = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60, env=environment)
    except FileNotFoundError as error:
        raise BuildError(f"{argv[0]} is not there: Leeward's embedded cloud needs Debian {OLDEST} or newer") from error
    if out.returncode != 0 and out.stderr.strip():
        raise BuildError(f"{' '.join(argv)} failed: {out.stderr.strip()}")
    return out.stdout


def mirrors() -> Mirrors:
    """Return the mirrors that this machine's apt uses.

    Raises:
        BuildError: the machine is not a Debian, or its sources contain no packages of Debian.
    """
    release = os_release()
    if reason := refusal(release):
        raise BuildError(f"{release.get('PRETTY_NAME', 'unknown system')}: {reason}")
    # From the sources alone: the answer is the same before and after the first `apt-get update`, and comes at once.
    options = ("--no-release-info", "-o", "Dir::State::lists=/nonexistent")
    targets = query("apt-get", "indextargets", *options, "--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)")
    return parse_mirrors(targets, release.get("VERSION_CODENAME", ""))


def parse_mirrors(targets: str, codename: str) -> Mirrors:
    """Find the mirrors in lines of "Packages URI RELEASE COMPONENT".

    Raises:
        BuildError: there is no line of this release.
    """
    found: dict[str, str] = {}
    for line in targets.splitlines():
        kind, uri, release, component = (line.split() + [""] * 4)[:4]
        if kind == "Packages" and component == "main":
            found.setdefault(release, uri.rstrip("/"))
    ours = next((name for name in (codename, *_SUITES) if name in found), None)
    if ours is None:
        raise BuildError(
            f"apt's sources have no Debian {codename or 'release'} main: add it to /etc/apt/sources.list, as `man sources.list` shows"
        )
    return Mirrors(found[ours], found.get(f"{ours}-security"))


def options() -> Mapping[str, str]:
    """Return the options that decide whether apt reaches and accepts the mirror."""
    return parse_options(query("apt-config", "dump"))


def parse_options(dump: str) -> Mapping[str, str]:
    """Find those options in the output of `apt-config dump`."""
    pairs = re.findall(r'^([\w:-]+) "(.*)";$', dump, re.MULTILINE)
    wanted = {name.lower(): name for name in _KEPT_OPTIONS}
    return {wanted[name.lower()]: value for name, value in pairs if name.lower() in wanted and value}
