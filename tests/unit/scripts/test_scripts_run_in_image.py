"""A container of the bench image is removed when the process that created it ends, at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.installed import run_in_image
from scripts.support.paths import ROOT

CREATE_A_CONTAINER = "from scripts.installed.run_in_image import container\nwith container('image'): print('inside', flush=True)"


@pytest.fixture
def buildah(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a fake buildah that records its calls; before it creates a container it waits until `go` can be read."""
    removing = f"echo removed >> {tmp_path}/calls; exec cat {tmp_path}/gone"
    making = f"cat {tmp_path}/go >/dev/null && echo made >> {tmp_path}/calls"
    (tmp_path / "buildah").write_text(f'#!/bin/sh\nif [ "$1" = rm ]; then {removing}; fi\n{making}\n')
    (tmp_path / "buildah").chmod(0o755)
    (tmp_path / "go").touch()
    (tmp_path / "gone").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_the_container_exists_during_the_block_and_is_removed_afterwards(buildah: Path) -> None:
    with run_in_image.container("image"):
        assert (buildah / "calls").read_text().split() == ["made"]
    assert (buildah / "calls").read_text().split() == ["made", "removed"]


def test_a_missing_image_is_an_error_and_no_container_is_created(buildah: Path) -> None:
    (buildah / "go").unlink()
    with pytest.raises(subprocess.CalledProcessError), run_in_image.container("image"):
        pass
    assert not (buildah / "calls").exists()


def test_a_process_that_is_killed_while_its_container_is_created_leaves_none(buildah: Path) -> None:
    (buildah / "go").unlink()
    (buildah / "gone").unlink()
    os.mkfifo(buildah / "go")
    os.mkfifo(buildah / "gone")
    with subprocess.Popen([sys.executable, "-c", CREATE_A_CONTAINER], cwd=ROOT) as creator:
        with (buildah / "go").open("w"):  # opens once it is read: the container is being created
            creator.kill()
            creator.wait()
        with (buildah / "gone").open("w"):  # opens once it is read: the container is being removed
            assert (buildah / "calls").read_text().split() == ["made", "removed"]
