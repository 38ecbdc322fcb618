"""`python -m localcloud build`: make or fetch, once, everything that the embedded cloud needs from outside.

Two jobs run at the same time: compiling (it needs the cores), and packages with the base image (it needs the network).
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from localcloud import paths
from localcloud.build import baseimage, binaries, images, packages, toolchain
from localcloud.build.cache import Cache, CacheError, Recipe
from localcloud.build.command import BuildError, stop_all
from localcloud.build.images import ARCHIVE
from localcloud.progress import Reporter, format_seconds

PACKAGES = "debian-packages"


@dataclass(frozen=True)
class Artifacts:
    """Paths of everything that the embedded cloud runs."""

    kubernetes: Path
    """Multi-call binary, called through a link named etcd, kube-apiserver, kubelet, kubectl..."""
    images: tuple[Path, ...]
    """Docker archives that every node imports before it joins. Each contains its image's full name."""
    base_image: Path
    """Docker archive of the serving image's base, under the name settings.BASE_IMAGE."""


@dataclass(frozen=True)
class Plan:
    """The recipes of everything, by kind. Making a plan builds nothing."""

    go: Recipe | None
    binaries: tuple[Recipe, ...]
    images: tuple[Recipe, ...]
    base_image: Recipe

    @property
    def compiled(self) -> tuple[Recipe, ...]:
        """Recipes of Go, binaries and images, in the order in which they must be made."""
        return (*((self.go,) if self.go else ()), *self.binaries, *self.images)


def plan(cache: Cache) -> Plan:
    """Return the recipes for this machine."""
    go = toolchain.find(cache)
    compiled = {binary: binaries.recipe(binary, go) for binary in binaries.BINARIES}
    written = tuple(images.recipe(image, compiled[image.binary], cache.path(compiled[image.binary])) for image in images.IMAGES)
    return Plan(go.recipe, tuple(compiled.values()), written, baseimage.recipe())


def artifacts() -> Artifacts:
    """Return where everything is. BuildError, with the command to run, when something is not built for the present sources."""
    cache = Cache(paths.artifacts_dir())
    planned = plan(cache)
    needed = (*planned.binaries, *planned.images, planned.base_image)
    found = {recipe.name: cache.find(recipe) for recipe in needed}
    folders = {name: folder for name, folder in found.items() if folder is not None}
    if absent := [name for name in found if name not in folders]:
        raise BuildError(f"not built for the present sources: {', '.join(absent)}. Run: python -m localcloud build")
    return Artifacts(
        kubernetes=folders[binaries.KUBERNETES.name] / binaries.KUBERNETES.name,
        images=tuple(folders[recipe.name] / ARCHIVE for recipe in planned.images),
        base_image=folders[planned.base_image.name] / ARCHIVE,
    )


def tools() -> tuple[Path, ...]:
    """Return the paths of Go and of the compiled Helm, which a deployment to the cloud needs as well."""
    cache = Cache(paths.artifacts_dir())
    go = toolchain.find(cache)
    return go.binary, cache.path(binaries.recipe(binaries.HELM, go)) / binaries.HELM.name


def build(reporter: Reporter) -> None:
    """Make everything that is missing. BuildError or CacheError when something fails; what was finished by then stays."""
    cache = Cache(paths.artifacts_dir())
    planned = plan(cache)

    def compile_all() -> None:
        for recipe in planned.compiled:
            _make(cache, recipe, reporter)

    def fetch_all() -> None:
        _install_packages(reporter)
        _make(cache, planned.base_image, reporter)

    _run_in_parallel(compile_all, fetch_all)


def _make(cache: Cache, recipe: Recipe, reporter: Reporter) -> None:
    made = cache.get(recipe, reporter.for_step(recipe.name))
    reporter.line(recipe.name, "cached" if made.took is None else f"built in {format_seconds(made.took)}")


def _install_packages(reporter: Reporter) -> None:
    started = time.monotonic()
    did = packages.install(reporter.for_step(PACKAGES))
    reporter.line(PACKAGES, f"installed in {format_seconds(time.monotonic() - started)}" if did else "installed already")


def _run_in_parallel(*jobs: Callable[[], None]) -> None:
    """Run all jobs and return when they have ended. The first error stops the others too and is raised."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            done, pending = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            stop_all(lambda text: print(text, file=sys.stderr, flush=True))
            raise
        failed = [future for future in done if future.exception()]
        if failed and pending:
            stop_all(lambda text: print(text, file=sys.stderr, flush=True))
    for future in failed:
        future.result()


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    text = f"""Make what the embedded cloud needs, once. Nothing is made again while its inputs are the same.

  debian-packages        containerd, buildah, redis and others, by apt; their daemons are not started
  go                     from PyPI, only where the machine has none that is new enough
  kubernetes, karpenter, compiled from the pinned Go modules of localcloud/build/go
  helm, coredns,
  kuberay-operator, pause,
  neuron-device-plugin
  ...-image              images that every node imports before it joins
  base-image             a small Debian for the serving image

Everything is kept in {paths.cache_dir()} (logs/ holds the last log of each step);
deleting that folder is safe while no cloud runs. About 10 minutes on two cores the first time, under a second after."""
    layout = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(prog="python -m localcloud build", description=text, formatter_class=layout).parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, _terminated)
    try:
        build(Reporter())
    except (BuildError, CacheError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished stays, the rest is made again next time", file=sys.stderr)
        return 130
    return 0
