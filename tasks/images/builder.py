"""buildah or docker: builds the images of serving/images, and pushes them."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from blocks.errors import Permanent, Transient
from blocks.parameters import ENGINES
from tasks.images.registry import Repository
from tasks.support.commands import run
from tasks.support.paths import ROOT

CONTEXT = ROOT / "serving"
BUILD_WITHIN_S = 4 * 3600.0
PUSH_WITHIN_S = 4 * 3600.0
"""Seconds. A base of 10 GB and more is pulled and pushed over an office line; what takes longer is stopped by its silence."""
QUIET_S = 3600.0
"""Seconds without a line from the builder after which it is stopped. It says nothing while it transfers a layer; 20 Mbit/s carry 9 GB in
an hour."""

STORE_WITHIN_S = 600.0
"""Seconds to wait for the builder's store, which others lock while they build or push."""

KINDS = ("head", *ENGINES, "chat", "bench")
"""Targets of the Containerfiles. An engine's target has its name, and is the image of its workers."""
OnStep = Callable[[int, int, str], None]
"""Called with the step's number, the number of steps, and the step's text."""

_STEP = re.compile(r"^(?:\[\d/\d\] )?STEP (\d+)/(\d+): (.*)|^#\d+ \[[^]]*?(\d+)/(\d+)\] (.*)")
_PASSED_TO_BUILD = re.compile(r"^(PIP|UV)_\w*(INDEX|HOST|URL)\w*$|^(HTTPS?|NO)_PROXY$", re.IGNORECASE)
_CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")


class NoBuilder(Permanent):
    """There is nothing to build images with."""


class Locked(Transient):
    """The builder's store is in use by other builds or pushes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image to build."""

    kind: str
    """The target, one of KINDS."""
    base: str = ""
    """Image that it is built from; empty: the default of its Containerfile."""
    platform: str = "linux/amd64"
    """Operating system and architecture of the nodes that run it."""

    @property
    def file(self) -> Path:
        """The Containerfile that has the target: KIND.Containerfile, or the common one when there is no such file."""
        own = CONTEXT / "images" / f"{self.kind}.Containerfile"
        return own if own.exists() else CONTEXT / "images" / "Containerfile"

    @property
    def arguments(self) -> list[str]:
        """Build arguments that set the base."""
        return [f"--build-arg=BASE={self.base}"] if self.base else []

    @property
    def base_reference(self) -> str:
        """The image that it is built from, with the Containerfile's default."""
        default = re.search(r"^ARG BASE=(\S+)$", self.file.read_text(encoding="utf-8"), re.MULTILINE)
        return self.base or (default[1] if default else "")

    @property
    def key(self) -> str:
        """Key of its content: another key means another image."""
        # The bench image contains none of the project's code.
        return content_key(self.base, CONTEXT / "images" if self.kind == "bench" else CONTEXT, self.platform)

    @property
    def tag(self) -> str:
        """Its tag in a repository that holds all kinds of images."""
        return f"{self.kind}-{self.key}"

    @property
    def local(self) -> str:
        """Its name in the builder's local store."""
        return f"localhost/leeward/{self.kind}:{self.key}"


@dataclass(frozen=True, slots=True)
class Builder:
    """A program that builds and pushes images."""

    program: Literal["buildah", "docker"]

    @classmethod
    def find(cls, wanted: str = "auto") -> Builder:
        """The wanted builder, or with "auto" the first that works.

        Raises:
            NoBuilder: none works.
        """
        for program in ("buildah", "docker"):
            if wanted in ("auto", program) and _works(program):
                return cls(program)
        what = "buildah or docker" if wanted == "auto" else wanted
        raise NoBuilder(f"no {what} that works on this machine; install buildah, or give the target a ready image")

    def emulates(self, wanted: str) -> bool:
        """Whether it builds for that platform on this machine, which has another one. Only docker's BuildKit can tell."""
        if self.program != "docker":
            return False
        found = subprocess.run(["docker", "buildx", "inspect"], capture_output=True, text=True, timeout=60, check=False).stdout
        return any(wanted in line for line in found.splitlines() if line.startswith("Platforms:"))

    def has(self, local: str) -> bool:
        """Whether the image is in the local store.

        Raises:
            Locked: the builder gave no answer.
        """
        argv = ["buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", local]
        if self.program == "docker":
            argv = ["docker", "image", "inspect", "--format", "{{.Id}}", local]
        try:
            return subprocess.run(argv, capture_output=True, timeout=STORE_WITHIN_S, check=False).returncode == 0
        except subprocess.TimeoutExpired as error:
            raise Locked(
                f"{self.program} did not say within {STORE_WITHIN_S / 60:.0f} min whether it has {local}: end its other builds"
            ) from error

    def build(self, recipe: Recipe, local: str, on_step: OnStep) -> None:
        """Build the image into the local store under that name.

        Raises:
            CommandFailed: the build failed; the message has its last lines.
        """
        with _secrets() as secrets:
            argv = [
                self.program,
                "build",
                *self._isolation(),
                f"--platform={recipe.platform}",
                "--target",
                recipe.kind,
                "-t",
                local,
                "-f",
                str(recipe.file),
            ]
            argv += [*(f"--secret={secret}" for secret in secrets), *recipe.arguments]
            run(
                [*argv, str(CONTEXT)],
                within_s=BUILD_WITHIN_S,
                quiet_s=QUIET_S,
                environment=self._environment(),
                on_line=lambda line: _report_step(line, on_step),
            )

    def push(self, local: str, repository: Repository, tag: str, on_line: Callable[[str], None]) -> None:
        """Push the image to the repository under the tag.

        Raises:
            CommandFailed: it was refused; the message has the last lines.
        """
        with tempfile.TemporaryDirectory(prefix="leeward-") as folder:
            login = repository.write_login(Path(folder))
            remote = f"{repository.host}/{repository.name}:{tag}"
            if self.program == "docker":
                run(["docker", "tag", local, remote], within_s=60)
                run(["docker", "--config", folder, "push", remote], within_s=PUSH_WITHIN_S, quiet_s=QUIET_S, on_line=on_line)
                return
            # A registry without TLS is on this machine or network: compressing takes longer than sending.
            near = ["--tls-verify=false", "--disable-compression"] if repository.plain_http else []
            argv = ["buildah", "push", f"--authfile={login}", *near, local, f"docker://{remote}"]
            run(argv, within_s=PUSH_WITHIN_S, quiet_s=QUIET_S, environment=self._environment(), on_line=on_line)

    def _isolation(self) -> list[str]:
        # chroot: works without the privileges that a container in a container lacks.
        return ["--isolation=chroot", "--network=host", "--layers"] if self.program == "buildah" else []

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}


def native_platform() -> str:
    """Platform of the images that this machine runs without emulation."""
    machine = platform.machine().lower()
    return f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }".replace(" ", "")


def content_key(base: str, context: Path = CONTEXT, platform: str = "linux/amd64") -> str:
    """Hash of all that goes into an image: the files of the context, its base, and its platform."""
    digest = hashlib.sha256(f"base {_base_identity(base)}\n".encode())
    if platform != "linux/amd64":
        digest.update(f"platform {platform}\n".encode())
    for path in sorted(p for p in context.rglob("*") if p.is_file() and _is_input(p)):
        digest.update(f"{path.relative_to(context).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:20]


def _is_input(path: Path) -> bool:
    return "__pycache__" not in path.parts and path.suffix not in (".md", ".pyc", ".in")


def _base_identity(base: str) -> str:
    transport, _, where = base.partition(":/")
    if not where:
        return base
    path = Path(f"/{where}")
    return f"{transport} {_digest(path, path.stat().st_mtime_ns)}"


@lru_cache(maxsize=8)
def _digest(archive: Path, changed: int) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _secrets() -> Iterator[list[str]]:
    """Settings that the build needs to reach package indexes, as build secrets: never in the image, its history or an argv."""
    with tempfile.TemporaryDirectory(prefix="leeward-") as folder:
        passed = {name: value for name, value in os.environ.items() if _PASSED_TO_BUILD.match(name)}
        file = Path(folder, "build-env")
        file.touch(mode=0o600)
        file.write_text("".join(f"export {name}='{_quoted(value)}'\n" for name, value in passed.items()), encoding="utf-8")
        ca = next((os.environ[name] for name in _CA_VARIABLES if Path(os.environ.get(name, "")).is_file()), None)
        yield [f"id=build-env,src={file}", *([f"id=ca,src={ca}"] if ca else [])]


def _quoted(value: str) -> str:
    return value.replace("'", "'\\''")


def _works(program: str) -> bool:
    # docker is often installed without a running daemon.
    asks = {"buildah": ["buildah", "version"], "docker": ["docker", "info", "--format", "{{.ServerVersion}}"]}
    if not shutil.which(program):
        return False
    try:
        return subprocess.run(asks[program], capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _report_step(line: str, on_step: OnStep) -> None:
    found = _STEP.match(line)
    if found:
        step, steps, what = (found[1], found[2], found[3]) if found[1] else (found[4], found[5], found[6])
        on_step(int(step), int(steps), what)
