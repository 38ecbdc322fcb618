"""Images are named by their content and found by digest; the registry's password is never shown."""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from embedded_aws import EmbeddedAws
from kubernetes_server import Server, serving

from blocks.errors import Permanent, Transient
from blocks.parameters import Infrastructure, Service
from blocks.register import TargetData
from blocks.target import Images, Target
from tasks.images import builder, publish
from tasks.images.builder import Builder, Recipe, content_key
from tasks.images.publish import ImageRefs, NoRepository, build_images, publish_images, recipes
from tasks.images.registry import Repository
from tasks.support import commands, site


def context(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "Containerfile").write_text("FROM x")
    (folder / "app.py").write_text("pass")
    return folder


def test_equal_content_has_the_same_key_in_any_folder(tmp_path: Path) -> None:
    assert content_key("b", context(tmp_path / "one")) == content_key("b", context(tmp_path / "two"))


@pytest.mark.parametrize("change", ["app.py", "images/Containerfile", "new.py"])
def test_any_change_of_a_file_changes_the_key(tmp_path: Path, change: str) -> None:
    folder = context(tmp_path / "one")
    before = content_key("b", folder)
    (folder / change).write_text("other")
    assert content_key("b", folder) != before


def test_caches_and_readmes_do_not_change_the_key(tmp_path: Path) -> None:
    folder = context(tmp_path / "one")
    before = content_key("b", folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "app.pyc").write_bytes(b"x")
    (folder / "README.md").write_text("x")
    assert content_key("b", folder) == before


def test_another_base_changes_the_key_and_an_archive_counts_by_its_content(tmp_path: Path) -> None:
    folder, archive = context(tmp_path / "one"), tmp_path / "base.tar"
    archive.write_bytes(b"1")
    first = content_key(f"oci-archive:{archive}", folder)
    archive.write_bytes(b"2")
    assert len({first, content_key(f"oci-archive:{archive}", folder), content_key("debian", folder)}) == 3


def test_an_engine_decides_which_images_head_and_workers_have_and_the_chat_is_the_same() -> None:
    images = Images(base="debian", neuron_base="aws")
    cpu, neuron = recipes("cpu", images), recipes("neuron", images)
    assert {role: (r.kind, r.base) for role, r in cpu.items()} == {
        "head": ("head", "debian"),
        "worker": ("cpu", "debian"),
        "chat": ("chat", "debian"),
    }
    assert (neuron["head"].kind, neuron["head"].base) == ("head", "docker.io/library/python:3.10.12-slim-bookworm")
    assert neuron["worker"] == Recipe("neuron", "aws")
    assert neuron["chat"] == cpu["chat"]
    assert recipes("cpu", images, chat=False).keys() == {"head", "worker"}


@pytest.mark.parametrize("kind", builder.KINDS)
def test_every_image_is_a_target_of_its_containerfile_and_takes_its_base_from_there(kind: str) -> None:
    recipe = Recipe(kind, "here")
    text = recipe.file.read_text(encoding="utf-8")
    assert re.search(rf"^FROM \S+ AS {kind}$", text, re.MULTILINE)
    (argument,) = recipe.arguments
    name, _, base = argument.removeprefix("--build-arg=").partition("=")
    assert base == "here"
    assert re.search(rf"^ARG {name}=", text, re.MULTILINE)
    assert Recipe(kind).arguments == []


@pytest.mark.parametrize("kind", builder.KINDS)
def test_every_image_ends_as_a_numeric_user_that_is_not_root(kind: str) -> None:
    stage = re.split(r"^FROM ", Recipe(kind).file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (mine,) = [text for text in stage if re.match(rf"\S+ AS {kind}\n", text)]
    assert re.findall(r"^USER (\S+)$", mine, re.MULTILINE)[-1] == "10001:10001"


def test_a_change_of_the_code_does_not_change_the_bench_image() -> None:
    assert Recipe("bench").key == content_key("", builder.CONTEXT / "images")
    assert Recipe("cpu").key == content_key("")
    assert Recipe("cpu").tag != Recipe("head").tag


def target(**data: object) -> Target:
    return TargetData.model_validate({"access_key_id": "a", "secret_access_key": "b", **data}).target()


def test_a_ready_image_is_used_for_workers_and_head_and_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "load_target", lambda name: target(image="r/x@sha256:1"))
    here = site.Site(target="t", infrastructure=Infrastructure())
    assert build_images.fn(here, Service()) == []
    assert publish_images.fn(here, Service(), None) == ImageRefs(head="r/x@sha256:1", worker="r/x@sha256:1", chat=None)


def test_without_a_repository_there_must_be_a_ready_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "load_target", lambda name: target())
    with pytest.raises(NoRepository, match="ready image"):
        publish_images.fn(site.Site(target="t", infrastructure=Infrastructure()), Service(), None)


def test_built_images_are_pushed_as_soon_as_there_is_a_repository(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = target(endpoint_url=aws.endpoint.url, access_key_id=aws.first.access_key_id, secret_access_key=aws.first.secret_access_key)
    pushed: dict[str, str] = {}

    class Store(SimpleNamespace):
        program = "buildah"

        def has(self, local: str) -> bool:
            return True

        def push(self, local: str, repository: Repository, tag: str, on_line: object) -> None:
            pushed[tag] = repository.name

    monkeypatch.setattr(site, "load_target", lambda name: ours)
    monkeypatch.setattr(Builder, "find", lambda wanted: Store())
    monkeypatch.setattr(Repository, "digest", lambda repository, tag: "sha256:1" if tag in pushed else None)
    monkeypatch.setattr(publish, "REPOSITORY_WITHIN_S", 0.0)
    here, wanted = site.Site(target="t", infrastructure=Infrastructure(name="x")), recipes("cpu", ours.images).values()
    assert build_images.fn(here, Service(engine="cpu")) == [recipe.local for recipe in wanted]
    assert pushed == {}, "Terraform has created no repository"
    aws.client("ecr").create_repository(repositoryName="leeward-x/serving")
    build_images.fn(here, Service(engine="cpu"))
    assert pushed == dict.fromkeys((recipe.tag for recipe in wanted), "leeward-x/serving")


@pytest.fixture
def registry() -> Iterator[tuple[Server, Repository]]:
    with serving() as (server, _):
        host = server.url.removeprefix("http://")
        yield server, Repository.parse(f"{host}/leeward-x/serving", plain_http=(host,), login="dXNlcjpwYXNz")


def test_a_tag_that_is_not_there_has_no_digest(registry: tuple[Server, Repository]) -> None:
    server, repository = registry
    server.answers["HEAD", "/v2/leeward-x/serving/manifests/t"] = (404, b"")
    assert repository.digest("t") is None


@pytest.mark.parametrize(("status", "kind"), [(503, Transient), (401, Permanent), (200, Permanent)])
def test_a_failing_registry_is_transient_and_a_refusing_one_permanent(
    registry: tuple[Server, Repository], status: int, kind: type[Exception]
) -> None:
    server, repository = registry
    server.answers["HEAD", "/v2/leeward-x/serving/manifests/t"] = (status, b"")
    with pytest.raises(kind):
        repository.digest("t")


def test_an_image_is_referred_to_by_digest() -> None:
    repository = Repository.parse("123.dkr.ecr.us-west-2.amazonaws.com/leeward-x/serving")
    assert repository.reference("sha256:1") == "123.dkr.ecr.us-west-2.amazonaws.com/leeward-x/serving@sha256:1"
    assert not repository.plain_http


def test_the_login_is_in_a_private_file_and_not_in_the_text_of_the_repository(tmp_path: Path) -> None:
    repository = Repository.parse("host/x", login="c2VjcmV0")
    path = repository.write_login(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"auths": {"host": {"auth": "c2VjcmV0"}}}
    assert "c2VjcmV0" not in repr(repository)


def test_a_build_gets_the_package_index_as_a_secret_file_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:it's@index")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with builder._secrets() as secrets:
        path = Path(secrets[0].split("src=")[1])
        text = path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "export PIP_INDEX_URL='https://user:it'\\''s@index'" in text
    assert "AWS_SECRET" not in text
    assert not path.exists()


def test_the_steps_of_a_build_are_its_progress() -> None:
    told: list[tuple[int, int, str]] = []
    for line in ("STEP 3/11: RUN apt", "[1/2] STEP 2/5: COPY x", "#7 [serving 2/6] RUN y", "noise"):
        builder._report_step(line, lambda *step: told.append(step))
    assert told == [(3, 11, "RUN apt"), (2, 5, "COPY x"), (2, 6, "RUN y")]


def test_the_error_of_a_failed_program_has_its_last_lines() -> None:
    with pytest.raises(commands.CommandFailed, match=r"exit code 3[\s\S]*the reason"):
        commands.run(["sh", "-c", "echo the reason >&2; exit 3"], within_s=60)


def test_a_program_that_says_nothing_more_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * bool(said))
    monkeypatch.setattr(commands, "time", later)
    with pytest.raises(commands.CommandFailed, match=r"stopped after 1800 s without any output; its last lines:\nlayer 1"):
        commands.run(["sh", "-c", "echo layer 1; exec sleep 600"], within_s=7200, quiet_s=1800, on_line=said.append)


def test_a_program_is_stopped_at_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    looks = itertools.count()  # the first one is for the deadline itself
    late = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * bool(next(looks) and pid.exists() and pid.read_text()))
    monkeypatch.setattr(commands, "time", late)
    with pytest.raises(commands.CommandFailed, match="deadline"):
        commands.run(["sh", "-c", f"echo $$ > {pid}; exec sleep 600"], within_s=60)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_the_output_of_a_program_is_reported_line_by_line() -> None:
    lines: list[str] = []
    assert commands.run(["printf", "one\\ntwo\\n"], within_s=60, on_line=lines.append) == "one\ntwo\n"
    assert lines == ["one", "two"]


def test_what_a_program_says_on_standard_error_is_reported_and_is_no_part_of_its_output() -> None:
    lines: list[str] = []
    assert commands.run(["sh", "-c", "echo WARNING >&2; printf 'a: 1'"], within_s=60, on_line=lines.append) == "a: 1"
    assert sorted(lines) == ["WARNING", "a: 1"]


def test_a_store_that_other_builds_keep_locked_is_waited_for_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "buildah"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(builder, "STORE_WITHIN_S", 0.2)
    with pytest.raises(builder.Locked, match="end its other builds"):
        builder.Builder("buildah").has("localhost/leeward/head:1")
