"""The table of what Ray survives: a row for each page of the catalogue, from its evidence."""

from __future__ import annotations

from pathlib import Path

import pytest
from drill_runs import LOSES, SURVIVES, World, observation, records
from series_runs import made, rows

from drills.evidence import Evidence, make_evidence
from drills.judge.verdict import judge
from scripts.installed import survives


def evidence(world: World = SURVIVES) -> Evidence:
    those = records(world)
    return make_evidence(world.drill, observation(world), those, judge(world.drill, observation(world), those), target="embedded")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    found = tmp_path / "page.md"
    found.write_text(f"# Words before\n\n{survives.BEGIN}\n{survives.END}\n\nWords after\n", encoding="utf-8")
    return found


def write(folder: Path, name: str, text: str) -> str:
    folder.mkdir()
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


def test_a_drill_and_a_series_get_a_row_each_and_a_later_one_replaces_that_of_its_page(page: Path, tmp_path: Path) -> None:
    one, many = evidence(), made(rows(3, lossy=[2])).model_copy(update={"drill": "head-pod"})
    folders = [write(tmp_path / "many", "series.json", many.to_json()), write(tmp_path / "one", "evidence.json", one.to_json())]
    assert survives.main(folders, page) == 0
    first = page.read_text(encoding="utf-8")
    table = [line for line in first.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in table] == ["head-pod", "head-pod-forced"]
    assert f"| 1 | 0 of {one.requests.sent:,} | 0 of {one.streams.sent:,} |" in table[1]
    assert "3, 1 with losses" in table[0]
    assert f"{many.requests.lost} of {many.requests.sent:,}" in table[0]
    assert many.why[0] in table[0]
    assert first.startswith("# Words before")
    assert first.endswith("Words after\n")

    slower = one.model_copy(update={"recovery_s": 99.9, "why": ("It was slow | twice.",)})
    survives.main([write(tmp_path / "slower", "evidence.json", slower.to_json())], page)
    again = page.read_text(encoding="utf-8").splitlines()
    assert len(again) == len(first.splitlines())
    (changed,) = [line for line in again if line.startswith("| `head-pod-forced` ")]
    assert "99.9 s" in changed
    assert changed.endswith("| It was slow / twice. |")


def test_what_was_lost_are_all_streams_that_did_not_finish() -> None:
    broken = evidence(LOSES)
    streams = broken.streams
    lost = streams.cut + streams.hung + streams.refused + streams.wrong
    assert lost
    assert f"| {lost:,} of {streams.sent:,} |" in survives.row(broken)


def test_the_page_of_the_documentation_has_the_table() -> None:
    text = survives.PAGE.read_text(encoding="utf-8")
    assert text.index(survives.BEGIN) < text.index(survives.END)
    assert survives.inserted(text, []) == text, "nothing but the script writes the table"
