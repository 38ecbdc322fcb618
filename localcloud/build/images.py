"""Writes container images from a few files, without a container tool, as docker archives that `ctr`, buildah and docker read.

The archives are reproducible: the same files give the same bytes, hence the same digests on every machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud import settings
from localcloud.build.binaries import COREDNS, KARPENTER, KUBERAY_OPERATOR, NEURON_DEVICE_PLUGIN, PAUSE, Binary
from localcloud.build.cache import Recipe, Workspace, digest
from localcloud.progress import Report

ARCHIVE = "image.tar"
"""Name of the file in an image's artefact."""
_EPOCH = "1970-01-01T00:00:00Z"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_NET_BIND_SERVICE = 10
_PASSWD = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
_GROUP = "root:x:0:\nnonroot:x:65532:\nnogroup:x:65534:\n"


@dataclass(frozen=True)
class Image:
    """An image that contains one of our binaries."""

    name: str
    reference: str
    binary: Binary
    entrypoint: str
    """Path of the binary in the image."""
    user: str = "65532:65532"
    """User and group as numbers: kubelet checks runAsNonRoot without reading the image's passwd."""
    capability: int | None = None
    """Number of a capability that the binary has although its user is not root."""


IMAGES = (
    Image("pause-image", settings.PAUSE_IMAGE, PAUSE, "/pause", user="65535:65535"),
    # For port 53, as in upstream's image.
    Image("coredns-image", settings.COREDNS_IMAGE, COREDNS, "/coredns", capability=_NET_BIND_SERVICE),
    Image("kuberay-operator-image", settings.KUBERAY_OPERATOR_IMAGE, KUBERAY_OPERATOR, "/manager"),
    Image("karpenter-image", settings.KARPENTER_IMAGE, KARPENTER, "/controller"),
    # Only root can use kubelet's folder for the sockets of device plug-ins.
    Image("neuron-device-plugin-image", settings.NEURON_DEVICE_PLUGIN_IMAGE, NEURON_DEVICE_PLUGIN, "/neuron-device-plugin", user="0:0"),
)


def recipe(image: Image, binary: Recipe, built: Path) -> Recipe:
    """Return how to write the image; `built` is the folder where the artefact of `binary` is, or will be."""
    # Not the whole Image: it contains the folder of the binary's sources, which differs between copies of the project.
    parts = (image.reference, image.binary.name, image.entrypoint, image.user, image.capability)
    inputs = {"image": repr(parts), "binary": binary.key, "writer": digest([Path(__file__)], Path(__file__).parent)}
    return Recipe(image.name, tuple(inputs.items()), lambda work, report: _make(image, built / image.binary.name, work, report))


def _make(image: Image, binary: Path, work: Workspace, report: Report) -> None:
    layer = work.scratch / "layer.tar"
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        _add_folder(tar, "etc")
        _add_text(tar, "etc/passwd", _PASSWD)
        _add_text(tar, "etc/group", _GROUP)
        _add_folder(tar, "tmp", 0o1777)
        _add_binary(tar, image.entrypoint.lstrip("/"), binary, image.capability)
    config = {"User": image.user, "Entrypoint": [image.entrypoint], "WorkingDir": "/", "Env": ["PATH=/"]}
    write_archive(work.out / ARCHIVE, image.reference, layer, config)


def write_archive(target: Path, reference: str, layer: Path, config: Mapping[str, object]) -> None:
    """Write a docker archive of one image with one layer, an uncompressed tar; `config` is as in an image's config file."""
    layer_digest = file_sha256(layer)
    document = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": _EPOCH,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        "history": [{"created": _EPOCH, "created_by": "leeward"}],
    }
    encoded = json.dumps(document, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    layer_name = f"{layer_digest}/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}]).encode()
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, "manifest.json", manifest)
        _add_bytes(tar, config_name, encoded)
        _add_folder(tar, layer_digest)
        _add_file(tar, layer_name, layer)


def file_sha256(path: Path) -> str:
    """Return the hex digest of the file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    return entry


def _add_folder(tar: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    entry = _entry(name, mode)
    entry.type = tarfile.DIRTYPE
    tar.addfile(entry)


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    _add_bytes(tar, name, text.encode())


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = _entry(name, 0o644)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _add_file(tar: tarfile.TarFile, name: str, source: Path, mode: int = 0o644, pax: Mapping[str, str] | None = None) -> None:
    entry = _entry(name, mode)
    entry.size = source.stat().st_size
    entry.pax_headers = dict(pax or {})
    with source.open("rb") as file:
        tar.addfile(entry, file)


def _add_binary(tar: tarfile.TarFile, name: str, source: Path, capability: int | None) -> None:
    pax = {} if capability is None else {"SCHILY.xattr.security.capability": file_capability(capability).decode("ascii")}
    _add_file(tar, name, source, 0o755, pax)


def file_capability(number: int) -> bytes:
    """Return the extended attribute that gives a file one capability, permitted and effective (VFS_CAP_REVISION_2).

    Only for capability numbers that leave every byte below 128, because PAX headers keep such bytes unchanged.
    """
    revision_2_effective = 0x02000001
    return struct.pack("<IIIII", revision_2_effective, 1 << number, 0, 0, 0)
