"""Tools that the project needs and Python does not include: uv, Terraform, and for tests a browser.

uv and Terraform are the machine's own if they are new enough, else a pinned release that is checked by SHA-256 and kept in the
user's cache; the browser is Debian's. `python3 -m scripts.tools environment` also creates the locked environment with uv.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import startup
from localcloud.doctor.tools import MIN_TERRAFORM, terraform_version
from localcloud.paths import cache_dir
from scripts.support.paths import ROOT, STATE

UV_REQUIREMENT = Path(__file__).with_name("uv.txt")
UV_MINIMUM = (0, 8)
"""First version of uv that reads and writes lock files of this revision."""

TERRAFORM_PINNED = "1.11.4"
TERRAFORM_SHA256 = {
    "x86_64": ("amd64", "1ce994251c00281d6845f0f268637ba50c0005657eb3cf096b92f753b42ef4dc"),
    "aarch64": ("arm64", "a43d1d0da9b9bab214a8305a39db0e40869572594ccf50c416a7756499143633"),
}
TERRAFORM_URL = "https://releases.hashicorp.com/terraform/{version}/terraform_{version}_linux_{arch}.zip"


class ToolMissing(RuntimeError):
    """A tool is missing and could not be installed; the text says what to do."""


def parse_version(text: str) -> tuple[int, ...]:
    """Return the first dotted number in `text`, e.g. (1, 11, 4); () when there is none."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def uv() -> Path:
    """Return a uv that is new enough: the machine's, else the pinned one, installed into the cache.

    Raises:
        ToolMissing: pip could not install it.
    """
    on_path = shutil.which("uv")
    if on_path:
        found = subprocess.run([on_path, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
        if parse_version(found) >= UV_MINIMUM:
            return Path(on_path)
    pinned = re.search(r"^uv==(\S+)", UV_REQUIREMENT.read_text(), re.MULTILINE)
    assert pinned, f"{UV_REQUIREMENT} pins no uv"
    target = cache_dir() / f"uv-{pinned[1]}" / "uv"
    if not target.exists():
        _install_uv(target)
    return target


def _install_uv(target: Path) -> None:
    """Install the pinned uv at `target`: pip checks its hash, and only the finished file is moved there."""
    with _staging_folder(target) as draft:
        venv = draft / "venv"
        _make_venv(venv)
        report(f"installing {UV_REQUIREMENT.name} into {target.parent}")
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
        if subprocess.run([*pip, "-r", str(UV_REQUIREMENT)], check=False).returncode:
            raise ToolMissing("pip could not install uv (its message is above); install uv yourself, or repair the package index")
        (venv / "bin" / "uv").replace(target)


def _make_venv(venv: Path) -> None:
    """Create a virtual environment with pip. Debian ships ensurepip in a separate package, which is installed if missing."""
    make = [sys.executable, "-m", "venv", str(venv)]
    if subprocess.run(make, stdout=subprocess.DEVNULL, check=False).returncode == 0:
        return
    shutil.rmtree(venv, ignore_errors=True)
    _install_debian_package(f"python{sys.version_info.major}.{sys.version_info.minor}-venv", "this Python has no ensurepip")
    if subprocess.run(make, stdout=subprocess.DEVNULL, check=False).returncode:
        raise ToolMissing(f"`{' '.join(make)}` failed (its message is above); install uv yourself")


def _install_debian_package(package: str, why: str) -> None:
    """Install a Debian package; `why` is printed.

    Raises:
        ToolMissing: apt could not install it.
    """
    report(f"{why}: installing the Debian package {package}")
    apt = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another step may be using apt at the same time, so wait for its lock.
    get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600"]
    for command in ([*get, "update"], [*get, "install", "-y", "--no-install-recommends", package]):
        with _sigterm_deferred():
            failed = subprocess.run(command, env=apt, stdout=subprocess.DEVNULL, check=False).returncode
        if failed:
            raise ToolMissing(f"`{' '.join(command)}` failed (its message is above); install {package} yourself")


@contextmanager
def _sigterm_deferred() -> Iterator[None]:
    """Defer a SIGTERM to the end of the block: a dpkg that is stopped half-way leaves the machine's packages half installed."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if came:
        raise SystemExit(128 + signal.SIGTERM)


def browser() -> Path:
    """Return Debian's Chromium, in which tests open pages; install it if it is missing.

    Raises:
        ToolMissing: apt could not install it.
    """
    if not shutil.which("chromium"):
        _install_debian_package("chromium", "the tests of pages need a browser")
    found = shutil.which("chromium")
    if not found:
        raise ToolMissing("the package chromium is installed, and there is no chromium on the PATH")
    return Path(found)


def terraform() -> Path:
    """Return a Terraform that is new enough: the machine's, else the pinned release, checked by its SHA-256, from the cache.

    Raises:
        ToolMissing: it could not be downloaded, or is not the pinned release.
    """
    on_path = shutil.which("terraform")
    if on_path and (terraform_version(on_path) or ()) >= MIN_TERRAFORM:
        return Path(on_path)
    target = cache_dir() / f"terraform-{TERRAFORM_PINNED}" / "terraform"
    if not target.exists():
        arch, sha256 = _terraform_release(platform.machine())
        unpack_checked(TERRAFORM_URL.format(version=TERRAFORM_PINNED, arch=arch), sha256, "terraform", target)
    return target


def _terraform_release(machine: str) -> tuple[str, str]:
    if machine not in TERRAFORM_SHA256:
        raise ToolMissing(f"no Terraform is pinned for {machine}; install Terraform ≥ 1.11 and put it on the PATH")
    return TERRAFORM_SHA256[machine]


def unpack_checked(url: str, sha256: str, member: str, target: Path) -> None:
    """Download the zip at `url` and put its `member` at `target`, executable; only if the zip's SHA-256 is `sha256`.

    Raises:
        ToolMissing: the download failed, or its content is another.
    """
    report(f"downloading {url}")
    with _staging_folder(target) as draft:
        archive = draft / "download.zip"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, archive.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except (OSError, http.client.HTTPException) as error:
            raise ToolMissing(f"could not download {url}: {error}; put {target.name} on the PATH yourself") from error
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ToolMissing(f"{url} has SHA-256 {found}, not the pinned {sha256}: not used")
        with zipfile.ZipFile(archive) as unpacked:
            program = Path(unpacked.extract(member, draft))
        program.chmod(0o755)
        program.replace(target)


@contextmanager
def _staging_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`. Its name is fixed, so the next call removes what a killed set-up left in it."""
    folder = target.parent / "draft"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(groups: Sequence[str]) -> None:
    """Install the project's dependencies and those of `groups` into the locked environment; other packages stay in it.

    Raises:
        ToolMissing: uv could not be installed, or its sync failed.
    """
    program = uv()
    unfinished = STATE / "environment-unfinished"
    command = [str(program), "sync", "--frozen", "--inexact", "--no-progress", "--no-default-groups", "--group", "pipeline"]
    command += [part for group in groups for part in ("--group", group)]
    # A killed sync may leave a package that looks installed and is incomplete.
    command += ["--reinstall"] if unfinished.exists() else []
    STATE.mkdir(exist_ok=True)
    unfinished.touch()
    if subprocess.run(command, cwd=ROOT, env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"}, check=False).returncode:
        raise ToolMissing(f"`{' '.join(command)}` failed (its message is above)")
    unfinished.unlink()


def report(text: str) -> None:
    """Print one line of progress."""
    print(text, flush=True)


PROGRAMS = {"terraform": terraform, "browser": browser}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `environment [GROUP …]`, `terraform` or `browser`; print the reason and return 1 when it fails."""
    parser = argparse.ArgumentParser(prog="python3 -m scripts.tools", description=__doc__)
    parser.add_argument("what", choices=("environment", *PROGRAMS))
    parser.add_argument("groups", nargs="*", help="dependency groups beyond the project's own dependencies")
    chosen = parser.parse_args(arguments)
    try:
        environment(chosen.groups) if chosen.what == "environment" else report(f"using {PROGRAMS[chosen.what]()}")
    except ToolMissing as missing:
        report(str(missing))
        return 1
    return 0


if __name__ == "__main__":
    startup.begin()
    raise SystemExit(main())
