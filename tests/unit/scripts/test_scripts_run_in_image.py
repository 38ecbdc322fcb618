"""A container of the bench image goes with whoever asked for it, at whatever moment that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.installed import run_in_image
from scripts.support.paths import ROOT

ASKING = "from scripts.installed.run_in_image import container\nwith container('image'): print('inside', flush=True)"


@pytest.fixture
def buildah(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a buildah that notes what it is asked; making a container, it waits until `go` can be read."""
    removing = f"echo removed >> {tmp_path}/did; exec cat {tmp_path}/gone"
    making = f"cat {tmp_path}/go >/dev/null && echo made >> {tmp_path}/did"
    (tmp_path / "buildah").write_text(f'#!/bin/sh\nif [ "$1" = rm ]; then {removing}; fi\n{making}\n')
    (tmp_path / "buildah").chmod(0o755)
    (tmp_path / "go").touch()
    (tmp_path / "gone").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_the_container_is_there_inside_and_removed_afterwards(buildah: Path) -> None:
    with run_in_image.container("image"):
        assert (buildah / "did").read_text().split() == ["made"]
    assert (buildah / "did").read_text().split() == ["made", "removed"]


def test_without_an_image_there_is_no_container(buildah: Path) -> None:
    (buildah / "go").unlink()
    with pytest.raises(subprocess.CalledProcessError), run_in_image.container("image"):
        pass
    assert not (buildah / "did").exists()


def test_who_is_killed_while_the_container_is_made_leaves_none(buildah: Path) -> None:
    (buildah / "go").unlink()
    (buildah / "gone").unlink()
    os.mkfifo(buildah / "go")
    os.mkfifo(buildah / "gone")
    with subprocess.Popen([sys.executable, "-c", ASKING], cwd=ROOT) as asking:
        with (buildah / "go").open("w"):  # somebody reads it: the container is being made
            asking.kill()
            asking.wait()
        with (buildah / "gone").open("w"):  # somebody reads this one: it is being removed
            assert (buildah / "did").read_text().split() == ["made", "removed"]
