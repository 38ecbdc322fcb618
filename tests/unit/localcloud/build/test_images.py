"""The image archives have the format that container tools read."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localcloud import settings
from localcloud.build.cache import Cache, Recipe
from localcloud.build.images import ARCHIVE, IMAGES, Image, file_capability, recipe, write_archive


def make(image: Image, tmp_path: Path) -> Path:
    """Write the archive of the image, with a few bytes in place of its binary."""
    built = tmp_path / "built"
    built.mkdir(exist_ok=True)
    (built / image.binary.name).write_bytes(b"\x7fELF not really")
    binary = Recipe(image.binary.name, (("a", "b"),), lambda work, report: None)
    return Cache(tmp_path / "cache").get(recipe(image, binary, built), lambda text: None).path / ARCHIVE


def read(archive: Path) -> tuple[str, dict[str, Any], dict[str, tarfile.TarInfo]]:
    """Return name, config and the layer's entries, read as `docker load` does: by the manifest, with a check of every digest."""
    with tarfile.open(archive) as tar:

        def content(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        (entry,) = json.loads(content("manifest.json"))
        encoded = content(entry["Config"])
        assert entry["Config"] == hashlib.sha256(encoded).hexdigest() + ".json"
        config = json.loads(encoded)
        (layer_name,) = entry["Layers"]
        assert config["rootfs"] == {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content(layer_name)).hexdigest()]}
        with tarfile.open(fileobj=tar.extractfile(layer_name)) as layer:
            entries = {member.name: member for member in layer.getmembers()}
        (name,) = entry["RepoTags"]
        return name, config, entries


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_an_image_is_complete_and_runs_its_binary_as_a_numeric_user_that_is_root_only_where_needed(image: Image, tmp_path: Path) -> None:
    name, config, entries = read(make(image, tmp_path))
    assert name == image.reference
    assert config["os"] == "linux"
    assert config["architecture"] in ("amd64", "arm64")
    (entrypoint,) = config["config"]["Entrypoint"]
    assert entries[entrypoint.lstrip("/")].mode == 0o755
    user, group = config["config"]["User"].split(":")
    assert (int(user) == 0) == (int(group) == 0) == (image.reference == settings.NEURON_DEVICE_PLUGIN_IMAGE)


def test_there_is_an_image_for_each_name_that_nodes_preload() -> None:
    assert tuple(image.reference for image in IMAGES) == settings.PRELOADED_IMAGES


def test_coredns_may_bind_port_53_without_being_root(tmp_path: Path) -> None:
    image = next(image for image in IMAGES if image.reference == settings.COREDNS_IMAGE)
    _, _, entries = read(make(image, tmp_path))
    attribute = entries["coredns"].pax_headers["SCHILY.xattr.security.capability"].encode()
    # From capability.h: revision 2 with the effective bit, then permitted = 1 << CAP_NET_BIND_SERVICE (10), little endian.
    assert attribute == bytes.fromhex("01000002 00040000 00000000 00000000 00000000")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file a capability")
def test_the_kernel_accepts_the_capability_attribute(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"")
    try:
        os.setxattr(file, "security.capability", file_capability(10))
    except PermissionError:
        pytest.skip("this root lacks CAP_SETFCAP")
    assert os.getxattr(file, "security.capability") == file_capability(10)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    image = IMAGES[0]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert make(image, tmp_path / "a").read_bytes() == make(image, tmp_path / "b").read_bytes()


def test_an_images_key_does_not_depend_on_the_projects_folder(tmp_path: Path) -> None:
    binary = Recipe("pause", (("a", "b"),), lambda work, report: None)
    here = IMAGES[0]
    elsewhere = replace(here, binary=replace(here.binary, folder=Path("/another/checkout/localcloud/build/go/pause")))
    assert recipe(elsewhere, binary, tmp_path).key == recipe(here, binary, tmp_path).key
    assert recipe(replace(here, user="0:0"), binary, tmp_path).key != recipe(here, binary, tmp_path).key


def test_a_large_layer_is_written_completely(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3_000_000))
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add(big, "big")
    write_archive(tmp_path / "image.tar", "example.com/a/b:c", layer, {"Cmd": ["sh"]})
    name, config, entries = read(tmp_path / "image.tar")
    assert (name, config["config"], entries["big"].size) == ("example.com/a/b:c", {"Cmd": ["sh"]}, 3_000_000)
