"""The picture of a surge is valid SVG with all its panels, and is the same when it is redrawn from its folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from surge_runs import GROWS, HEAD_DIES, NEVER_GROWS, PLAN, STAYS, World, records, seen

from drills.report.picture.scale import TimeAxis
from drills.report.picture.steps import Count, steps_panel
from drills.report.picture.surge import draw
from drills.surge import archive
from drills.surge.__main__ import main
from drills.surge.judgement import judge

SVG = "{http://www.w3.org/2000/svg}"
PANELS = ["Requests and streams a second", "Engine replicas", "Workers", "inf2 nodes", "Pods"]


def evidence(world: World) -> archive.Evidence:
    plan = PLAN.model_copy(update={"fault": "none" if world.head_deleted_s is None else "head-pod"})
    whole = seen(world)
    judgement = judge(plan, whole, records(world))
    return archive.Evidence(target="embedded", run="calm-otter", judgement=judgement, plan=plan, seen=whole, config={"api_key": "s3cret"})


def picture(world: World, **options: object) -> ElementTree.Element:
    data = archive.picture_data(evidence(world), seen(world).samples, records(world))
    return ElementTree.fromstring(draw(data, **options))  # type: ignore[arg-type]


def texts(root: ElementTree.Element, class_: str) -> list[str]:
    return [t.text or "" for t in root.iter() if class_ in (t.get("class") or "").split()]


@pytest.mark.parametrize("world", [GROWS, HEAD_DIES, NEVER_GROWS, STAYS, replace(GROWS, lost=((30.0, "cut"),))])
def test_the_picture_of_a_surge_is_well_formed_and_has_all_panels_on_one_axis(world: World) -> None:
    root = picture(world)
    assert texts(root, "name") == PANELS
    assert root.find(f"{SVG}title") is not None
    width = float(root.get("width", "0"))
    for bar in root.iter(f"{SVG}rect"):
        assert float(bar.get("x", "0")) + float(bar.get("width", "0")) <= width + 0.01


def test_the_moments_of_the_surge_are_marked() -> None:
    words = texts(picture(HEAD_DIES), "label") + texts(picture(HEAD_DIES), "label-fault")
    expected = {"surge begins", "head pod deleted", "more workers answer", "surge ends", "workers as before", "nodes as before"}
    assert expected == set(words)
    assert "head pod deleted" not in texts(picture(GROWS), "label-fault")
    assert {"more workers answer"}.isdisjoint(texts(picture(NEVER_GROWS), "label"))


def test_a_failed_request_is_red_and_counted_in_the_heading() -> None:
    assert any("0 of" in text for text in texts(picture(GROWS), "head"))
    root = picture(replace(GROWS, lost=((30.0, "cut"),)), title="Here")
    assert any(text.startswith("Here: 1 of") for text in texts(root, "head"))
    assert len([r for r in root.iter(f"{SVG}rect") if r.get("class") == "pod-bad"]) == 1


def test_steps_are_to_scale_and_objects_that_are_not_ready_are_striped() -> None:
    axis = TimeAxis(0, 30)
    panel = steps_panel(axis, "n", "", [Count(0, 2, 2), Count(10, 2, 4), Count(20, None, 4), Count(25, 4, 4), Count(30, 4, 4)])
    bars = [
        (r.get("class"), float(r.get("x", 0)), float(r.get("width", 0)), float(r.get("height", 0)))
        for r in ElementTree.fromstring(f"<g>{panel.body}</g>").iter("rect")
    ]
    second = (axis.right - axis.left) / 30
    assert [(kind, round((x - axis.left) / second), round(w / second)) for kind, x, w, _ in bars] == [
        ("pod", 0, 10),
        ("pod", 10, 10),
        ("pod-wait", 10, 10),
        ("pod", 25, 5),
    ]
    assert [round(height / panel.height, 2) for *_, height in bars] == [0.5, 0.5, 0.5, 1]


def test_a_surge_without_samples_and_records_can_be_drawn() -> None:
    assert ElementTree.fromstring(f"<g>{steps_panel(TimeAxis(0, 1), 'n', '', []).body}</g>") is not None
    whole = seen(GROWS).model_copy(update={"surge_at": None, "before": None, "ended_at": None, "loads": (), "samples": ()})
    judgement = judge(PLAN, whole, [])
    found = archive.Evidence(target="t", run="r", judgement=judgement, plan=PLAN, seen=whole)
    assert texts(ElementTree.fromstring(draw(archive.picture_data(found, (), []))), "name") == PANELS[:4]


def test_the_folder_of_a_surge_has_no_secret_and_gives_the_same_picture_again(tmp_path: Path) -> None:
    drawn = archive.write(tmp_path / "run", evidence(GROWS), records(GROWS))
    assert sorted(p.name for p in drawn.parent.iterdir()) == ["evidence.json", "records.jsonl", "samples.jsonl", "scaling.svg"]
    told = json.loads((drawn.parent / "evidence.json").read_text())
    assert (told["format"], told["judgement"]["verdict"], told["config"]) == ("leeward.surge/1", "passed", {"api_key": "***"})
    assert len((drawn.parent / "samples.jsonl").read_text().splitlines()) == len(seen(GROWS).samples)
    again = tmp_path / "again.svg"
    assert main([str(drawn.parent), "-o", str(again)]) == 0
    assert again.read_text() == drawn.read_text()
    assert main([str(drawn.parent), "-o", str(again), "--title", "Here", "--span", "-5", "100"]) == 0
    assert "Here: 0 of" in again.read_text()


def test_a_folder_without_a_surge_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", str(tmp_path / "x.svg")]) == 2
    assert "is not the evidence of a surge" in capsys.readouterr().err
