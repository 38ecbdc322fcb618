"""An artefact of the build is complete or does not exist, and is made once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from localcloud.build import cache
from localcloud.build.cache import KEEP_UNUSED_DAYS, Cache, Recipe, Workspace, digest
from localcloud.progress import Report

_FORK = multiprocessing.get_context("fork")


def quiet(text: str) -> None:
    pass


def writing(content: str) -> Callable[[Workspace, Report], None]:
    def make(work: Workspace, report: Report) -> None:
        (work.out / "file").write_text(content)

    return make


def recipe(content: str = "a", **inputs: str) -> Recipe:
    return Recipe("thing", tuple({"content": content, **inputs}.items()), writing(content))


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock"))


def test_an_artefact_is_made_once_and_then_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first = cache.get(recipe(), quiet)
    assert first.took is not None
    assert (first.path / "file").read_text() == "a"

    def never(work: Workspace, report: Report) -> None:
        raise AssertionError("made twice")

    again = cache.get(replace(recipe(), make=never), quiet)
    assert again.took is None
    assert again.path == first.path


def test_the_key_changes_with_every_input_and_not_with_their_order() -> None:
    one = Recipe("thing", (("go", "1"), ("flags", "2")), writing(""))
    assert one.key == Recipe("thing", (("flags", "2"), ("go", "1")), writing("")).key
    others = [(("go", "1"), ("flags", "3")), (("go", "12"), ("flags", "")), (("go", "1"),), (("go", "2"), ("flags", "1"))]
    assert one.key not in {Recipe("thing", inputs, writing("")).key for inputs in others}


def test_the_digest_of_sources_depends_on_names_and_contents_but_not_on_their_folder(tmp_path: Path) -> None:
    for folder, name, content in (("a", "main.go", "x"), ("b", "main.go", "x"), ("c", "main.go", "y"), ("d", "other.go", "x")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content)
    a, b, c, d = (digest((tmp_path / folder).iterdir(), tmp_path / folder) for folder in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_a_recipe_that_fails_leaves_nothing_and_is_run_again(tmp_path: Path) -> None:
    def half(work: Workspace, report: Report) -> None:
        (work.out / "file").write_text("half")
        raise RuntimeError("compiler fell over")

    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError, match="fell over"):
        cache.get(replace(recipe(), make=half), quiet)
    assert visible(tmp_path) == []
    assert cache.find(recipe()) is None
    assert (cache.get(recipe(), quiet).path / "file").read_text() == "a"


def test_what_a_killed_process_left_is_not_used_and_is_removed_by_the_next(tmp_path: Path) -> None:
    started = _FORK.Event()

    def hang(work: Workspace, report: Report) -> None:
        (work.out / "file").write_text("half")
        started.set()
        time.sleep(60)

    maker = _FORK.Process(target=Cache(tmp_path).get, args=(replace(recipe(), make=hang), quiet))
    maker.start()
    assert started.wait(60)
    os.kill(maker.pid or 0, signal.SIGKILL)
    maker.join(60)
    assert len(visible(tmp_path)) == 1, "the killed process must have left its temporary folder"

    made = Cache(tmp_path).get(recipe(), quiet)
    assert (made.path / "file").read_text() == "a"
    assert visible(tmp_path) == [made.path.name]


def _count(root: Path, go: Event) -> None:
    def slowly(work: Workspace, report: Report) -> None:
        with (root / "makings.lock").open("a") as file:
            file.write("x")
        time.sleep(0.3)
        (work.out / "file").write_text("whole")

    assert go.wait(60)
    made = Cache(root).get(replace(recipe(), make=slowly), quiet)
    assert (made.path / "file").read_text() == "whole"


def test_of_several_processes_one_makes_the_artefact_and_the_others_wait_for_it(tmp_path: Path) -> None:
    go = _FORK.Event()
    runs = [_FORK.Process(target=_count, args=(tmp_path, go)) for _ in range(4)]
    for run in runs:
        run.start()
    go.set()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0, 0]
    assert (tmp_path / "makings.lock").read_text() == "x"


def test_the_error_of_a_held_lock_does_not_blame_process_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build may be process 1 of a pid namespace of its own; elsewhere that number means another process."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(cache, "_LOCK_DEADLINE", 0.0)
    with cache.lock(tmp_path / "lock", quiet), pytest.raises(cache.CacheError) as refused, cache.lock(tmp_path / "lock", quiet):
        pass
    assert "lslocks" in str(refused.value)
    assert "process 1" not in str(refused.value)


def test_an_artefact_of_other_inputs_is_removed_when_it_was_not_used_for_a_long_time(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old, recent = cache.get(recipe("old"), quiet).path, cache.get(recipe("recent"), quiet).path
    long_ago = time.time() - (KEEP_UNUSED_DAYS + 1) * 86400
    os.utime(old, (long_ago, long_ago))
    new = cache.get(recipe("new"), quiet).path
    assert visible(tmp_path) == sorted([recent.name, new.name])


def test_finding_an_artefact_counts_as_using_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = cache.get(recipe("old"), quiet).path
    os.utime(path, (0, 0))
    cache.find(recipe("old"))
    cache.get(recipe("new"), quiet)
    assert path.exists()
