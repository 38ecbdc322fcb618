"""Artefacts that are made once and found again by their inputs.

An artefact is a folder `<name>-<key>`; the key is a hash of everything that decides its content. It is made in a
temporary folder beside its final place, written to disk, and renamed: it is complete or does not exist, and a changed
input leads to another folder. A lock per name lets one process at a time make it; the kernel releases the lock of a
process that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from localcloud.progress import Pace, Report, format_seconds

KEEP_UNUSED_DAYS = 14
"""Days after which an unused artefact of other inputs is removed, when its successor is made."""
_LOCK_POLL = 0.5
_LOCK_DEADLINE = 3600.0


class CacheError(RuntimeError):
    """An error of the cache itself; the text gives the reason."""


@dataclass(frozen=True)
class Workspace:
    """Folders of a recipe while it runs: `out` becomes the artefact, `scratch` is deleted."""

    out: Path
    scratch: Path


Make = Callable[[Workspace, Report], None]


@dataclass(frozen=True)
class Recipe:
    """How an artefact is made, and its inputs."""

    name: str
    inputs: tuple[tuple[str, str], ...]
    """Names and values of everything that decides the content."""
    make: Make
    """Function that fills `out`, or raises."""

    @property
    def key(self) -> str:
        """A hash of the inputs, 16 hex digits."""
        return hashlib.sha256(json.dumps(sorted(self.inputs)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Made:
    """An artefact that exists."""

    path: Path
    took: float | None
    """Seconds that it took to make it now; None when it existed already."""


def digest(files: Iterable[Path], root: Path) -> str:
    """Return a hash of the files' paths below `root` and their contents."""
    total = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


class Cache:
    """A folder of artefacts. Any number of processes may use it at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, recipe: Recipe) -> Path:
        """Return the folder where the artefact is, or will be."""
        return self.root / f"{recipe.name}-{recipe.key}"

    def find(self, recipe: Recipe) -> Path | None:
        """Return the artefact's folder, or None when it is not made yet. This counts as a use of it."""
        path = self.path(recipe)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        except PermissionError:
            return path
        return path

    def get(self, recipe: Recipe, report: Report) -> Made:
        """Return the artefact; make it if it does not exist."""
        if found := self.find(recipe):
            return Made(found, None)
        self.root.mkdir(parents=True, exist_ok=True)
        with lock(self.root / f".{recipe.name}.lock", report):
            if found := self.find(recipe):
                return Made(found, None)
            self._sweep(recipe.name)
            started = time.monotonic()
            path = self._make(recipe, report)
            self._prune(recipe)
            return Made(path, time.monotonic() - started)

    def _make(self, recipe: Recipe, report: Report) -> Path:
        temporary = Path(tempfile.mkdtemp(prefix=f".{recipe.name}.", dir=self.root))
        try:
            workspace = Workspace(temporary / "out", temporary / "scratch")
            workspace.out.mkdir()
            workspace.scratch.mkdir()
            recipe.make(workspace, report)
            _write_through(workspace.out)
            workspace.out.rename(self.path(recipe))
            _sync(self.root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return self.path(recipe)

    def _sweep(self, name: str) -> None:
        """Remove what a killed process left. Only for the holder of the lock of `name`: no other process is making it."""
        for left in self.root.glob(f".{name}.*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)

    def _prune(self, recipe: Recipe) -> None:
        oldest = time.time() - KEEP_UNUSED_DAYS * 86400
        hexes = "[0-9a-f]" * len(recipe.key)
        for other in self.root.glob(f"{recipe.name}-{hexes}"):
            if other != self.path(recipe) and other.stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)


@contextlib.contextmanager
def lock(path: Path, report: Report) -> Iterator[None]:
    """Hold an exclusive lock on the file; report while another process holds it. CacheError after an hour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        _wait_for(file.fileno(), path, report)
        yield


def _wait_for(descriptor: int, path: Path, report: Report) -> None:
    pace = Pace(first=0.0)
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        # Without its pid: a build is often process 1 of a pid namespace of its own, and here 1 is another process.
        if pace.elapsed > _LOCK_DEADLINE:
            held = f"another build has held {path} for {format_seconds(pace.elapsed)}"
            raise CacheError(f"{held}: `lslocks` names its process; look what it waits for, or end it")
        if pace.due():
            report(f"{format_seconds(pace.elapsed)}: waiting for another build, which is making it already")
        time.sleep(_LOCK_POLL)


def _write_through(root: Path) -> None:
    """Write contents to disk before the rename: so a power cut leaves no empty files in a complete artefact."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                _sync(path)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
