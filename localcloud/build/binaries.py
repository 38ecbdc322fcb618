"""The compiled binaries: one Go module per folder of go/, pinned by its go.mod and go.sum."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud import paths, settings
from localcloud.build.cache import Recipe, Workspace, digest
from localcloud.build.command import new_log, run_logged
from localcloud.build.toolchain import Go
from localcloud.progress import Report
from startup import environment

_FETCH_DEADLINE = 1800.0
_COMPILE_DEADLINE = 3600.0
_SETTINGS = {
    "CGO_ENABLED": "0",  # static: runs in an image that holds nothing else
    "GOFLAGS": "",  # the user's flags would change the result, and are not part of the key
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
    "GO111MODULE": "on",
}


def _kubernetes_flags() -> str:
    """Return linker flags that set the version. Without them every component reports v0.0.0-master, and clients refuse or warn."""
    major, minor, _ = settings.KUBERNETES_VERSION.split(".")
    version = "k8s.io/component-base/version"
    return f" -X {version}.gitVersion=v{settings.KUBERNETES_VERSION} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"


@dataclass(frozen=True)
class Binary:
    """A binary and the Go module it is compiled from."""

    name: str
    folder: Path
    package: str = "."
    """Main package, as an argument of `go build`."""
    main: str = ""
    """Import path of the main package, which `go build -v` prints last."""
    linker: str = "-s -w"


KUBERNETES = Binary("kubernetes", paths.GO_DIR / "kubernetes", main="leeward/kubernetes", linker="-s -w" + _kubernetes_flags())
COREDNS = Binary("coredns", paths.GO_DIR / "coredns", main="leeward/coredns")
KUBERAY_OPERATOR = Binary(
    "kuberay-operator",
    paths.GO_DIR / "kuberay",
    package="github.com/ray-project/kuberay/ray-operator",
    main="github.com/ray-project/kuberay/ray-operator",
)
KARPENTER = Binary(
    "karpenter",
    paths.GO_DIR / "karpenter",
    package="github.com/aws/karpenter-provider-aws/cmd/controller",
    main="github.com/aws/karpenter-provider-aws/cmd/controller",
)
# In the same module as Karpenter: the two share most of their packages, which are then compiled once.
HELM = Binary("helm", paths.GO_DIR / "karpenter", package="helm.sh/helm/v3/cmd/helm", main="helm.sh/helm/v3/cmd/helm")
NEURON_DEVICE_PLUGIN = Binary("neuron-device-plugin", paths.GO_DIR / "neuron-device-plugin", main="leeward/neuron-device-plugin")
PAUSE = Binary("pause", paths.GO_DIR / "pause", main="leeward/pause")
BINARIES = (KUBERNETES, KARPENTER, HELM, COREDNS, KUBERAY_OPERATOR, NEURON_DEVICE_PLUGIN, PAUSE)
"""All binaries, those that take longest first: the images wait for the last one."""


def recipe(binary: Binary, go: Go) -> Recipe:
    """Return how to compile the binary; the artefact contains one file of its name."""
    sources = [f for f in binary.folder.iterdir() if f.suffix == ".go" or f.name in ("go.mod", "go.sum")]
    inputs = {
        "sources": digest(sources, binary.folder),
        "go": go.version,
        "machine": os.uname().machine,
        "arguments": " ".join(_arguments(binary)),
        "settings": " ".join(f"{k}={v}" for k, v in sorted(_SETTINGS.items())),
    }
    return Recipe(binary.name, tuple(inputs.items()), lambda work, report: _compile(binary, go, work, report))


def _arguments(binary: Binary) -> list[str]:
    return ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", binary.linker]


def _environment(go: Go, scratch: Path) -> Mapping[str, str]:
    """Return the environment of Go: the user's, with its module proxy and caches, but fixed where it would change the result."""
    return {**environment.for_go(go.binary, os.environ), **_SETTINGS, "GOTMPDIR": str(scratch)}


def _compile(binary: Binary, go: Go, work: Workspace, report: Report) -> None:
    log = new_log(binary.name)
    variables = _environment(go, work.scratch)
    progress = GoProgress(binary.main)
    # Listing the packages downloads the modules: the network is needed first, then the cores.
    listing = [str(go.binary), "list", "-mod=readonly", "-deps", binary.package]
    run_logged(listing, what=f"fetching the modules of {binary.name}", log=log, report=report, deadline=_FETCH_DEADLINE,
        doing="finding its modules", follow=progress.fetching, env=variables, cwd=binary.folder)  # fmt: skip
    building = [str(go.binary), "build", "-v", *_arguments(binary), "-o", str(work.out / binary.name), binary.package]
    run_logged(building, what=f"compiling {binary.name}", log=log, report=report, deadline=_COMPILE_DEADLINE, doing="linking",
        follow=progress.compiling, env=variables, cwd=binary.folder)  # fmt: skip


class GoProgress:
    """Progress of Go, counted from its output."""

    def __init__(self, main: str) -> None:
        self._main = main
        self._modules = 0
        self._packages = 0
        self._compiled = 0

    def fetching(self, line: str) -> str:
        """Count a line of `go list -deps`; return the progress in a few words."""
        if line.startswith("go: downloading "):
            self._modules += 1
        elif line and not line.startswith(("go: ", "$ ")):
            self._packages += 1
        return f"downloading modules, {self._modules} so far"

    def compiling(self, line: str) -> str:
        """Count a line of `go build -v`, which prints only packages that are not in Go's own cache."""
        if line == self._main:
            return "linking"
        if line and not line.startswith(("go: ", "#", "\t", "$ ")):
            self._compiled += 1
        return f"compiled {self._compiled} of at most {self._packages} packages"
