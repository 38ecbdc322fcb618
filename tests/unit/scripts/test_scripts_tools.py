"""Tools are the machine's own, or exactly the pinned release."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import zipfile
from pathlib import Path

import pytest

from scripts import tools
from scripts.tools import ToolMissing, parse_version, unpack_checked


@pytest.mark.parametrize(
    ("text", "version"),
    [("uv 0.13.9 (abc 2026-01-01)", (0, 13, 9)), ("Terraform v1.11.4\non linux_amd64", (1, 11, 4)), ("nothing", ()), ("1.9.0", (1, 9, 0))],
)
def test_a_version_is_parsed_from_the_output_of_a_tool(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.fixture
def release(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "release.zip", "w") as archive:
        archive.writestr("terraform", "#!/bin/sh\necho it runs\n")
        archive.writestr("LICENSE.txt", "text")
    return tmp_path / "release.zip"


def test_a_release_with_the_pinned_checksum_is_unpacked_and_can_be_run(release: Path, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "terraform-1" / "terraform"
    unpack_checked(release.as_uri(), hashlib.sha256(release.read_bytes()).hexdigest(), "terraform", target)
    assert os.access(target, os.X_OK)
    assert [path.name for path in target.parent.iterdir()] == ["terraform"], "nothing else is left beside it"


def test_a_release_with_another_checksum_is_not_used(release: Path, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "terraform"
    with pytest.raises(ToolMissing, match="not the pinned"):
        unpack_checked(release.as_uri(), "0" * 64, "terraform", target)
    assert not target.exists()


def test_the_error_of_a_release_that_is_missing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="put terraform on the PATH"):
        unpack_checked((tmp_path / "nowhere.zip").as_uri(), "0" * 64, "terraform", tmp_path / "terraform")


@pytest.mark.parametrize("broken", [ConnectionResetError("reset"), http.client.IncompleteRead(b"half")])
def test_the_error_of_an_interrupted_download_says_what_to_do(broken: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(url: str, timeout: float) -> None:
        raise broken

    monkeypatch.setattr(tools.urllib.request, "urlopen", urlopen)
    with pytest.raises(ToolMissing, match="put terraform on the PATH"):
        unpack_checked("https://example.com/release.zip", "0" * 64, "terraform", tmp_path / "terraform")


def test_a_release_is_unpacked_although_a_killed_set_up_left_files(release: Path, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "terraform"
    (target.parent / "draft" / "half").mkdir(parents=True)
    unpack_checked(release.as_uri(), hashlib.sha256(release.read_bytes()).hexdigest(), "terraform", target)
    assert [path.name for path in target.parent.iterdir()] == ["terraform"]


def test_a_tool_on_the_path_that_is_new_enough_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "terraform"
    program.write_text("#!/bin/sh\necho 'a warning'\necho '{\"terraform_version\": \"1.12.0\"}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert tools.terraform() == program


def test_every_pinned_tool_has_a_version_and_checksums() -> None:
    pin = tools.UV_REQUIREMENT.read_text()
    assert len(re.findall(r"^uv==\d+\.\d+\.\d+ ", pin, re.MULTILINE)) == 1
    assert len(set(re.findall(r"--hash=sha256:[0-9a-f]{64}", pin))) == 2, "one for each architecture"
    assert all(re.fullmatch(r"[0-9a-f]{64}", checksum) for _, checksum in tools.TERRAFORM_SHA256.values())
    assert parse_version(tools.TERRAFORM_PINNED) >= tools.MIN_TERRAFORM


def test_a_python_without_ensurepip_gets_it_as_debian_package_before_the_environment_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a fresh Debian `python3 -m venv` fails until apt has installed python3.X-venv."""
    programs = {
        "python": f'test -e {tmp_path}/installed || {{ mkdir -p "$3/half"; exit 1; }}; test ! -e "$3/half" && mkdir "$3"',
        "apt-get": f'echo "$@" >> {tmp_path}/asked; case "$*" in *install*) touch {tmp_path}/installed;; esac',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(tools.sys, "executable", str(tmp_path / "python"))
    tools._make_venv(tmp_path / "venv")
    assert (tmp_path / "venv").is_dir()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0].endswith("update")
    assert re.search(r"install .*python3\.\d+-venv$", asked[1])


def test_the_error_of_a_failed_apt_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("python", "apt-get"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(tools.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ToolMissing, match=r"apt-get .*update"):
        tools._make_venv(tmp_path / "venv")


def test_a_running_apt_ends_before_sigterm_ends_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = f"case $* in *install*) kill -TERM $PPID; touch {tmp_path}/unpacked;; esac"
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\n{apt}\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(SystemExit):
        tools._install_debian_package("chromium", "a reason")
    assert (tmp_path / "unpacked").exists()
