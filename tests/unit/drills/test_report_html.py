"""The report is one self-contained file with the verdict first, for every kind of drill."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from drill_runs import LOSES, SURVIVES, T0, World, observation, records

from drills import evidence
from drills.definition import Drill, Load
from drills.evidence import Evidence
from drills.judge.verdict import judge
from drills.observed import Event, Observation
from drills.records import Record
from drills.report import archive, render


def made(world: World = SURVIVES, seen: Observation | None = None, those: list[Record] | None = None) -> tuple[Evidence, list[Record]]:
    requests = records(world) if those is None else those
    observed = seen or observation(world)
    return evidence.make_evidence(world.drill, observed, requests, judge(world.drill, observed, requests), target="embedded"), requests


class Page(HTMLParser):
    """The tags, the words, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "link", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_report_begins_with_the_verdict_in_plain_words() -> None:
    text = render.html(*made(LOSES))
    page = Page(text)
    assert page.open == []
    first = text[text.index("<body") :]
    assert first.index("users noticed: 208 of 800 requests and 51 of 136 token streams were lost") < first.index("<svg")


@pytest.mark.parametrize("world", [SURVIVES, LOSES], ids=["survives", "loses"])
def test_the_report_needs_no_other_file_no_network_and_no_script(world: World) -> None:
    text = render.html(*made(world))
    page = Page(text)
    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"} == set()
    assert [a for _, attrs in page.tags for a in attrs if a in ("src", "href") or a.startswith("on")] == []
    assert "@import" not in text
    assert "url(http" not in text


def test_the_report_is_light_dark_and_printable_and_describes_its_picture_in_words() -> None:
    page = Page(text := render.html(*made()))
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text
    picture = next(attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img")
    ids = {attrs.get("id") for _, attrs in page.tags}
    assert set((picture["aria-labelledby"] or "").split()) <= ids


def test_every_stream_that_was_lost_has_a_mark() -> None:
    found, those = made(LOSES)
    lost = [r for r in those if r.kind == "stream" and not r.ok]
    text = render.html(found, those)
    assert len(lost) == 51
    assert [r.id for r in lost if f"<title>stream {r.id}: " not in text] == []


def test_every_loss_is_visible_among_two_thousand_streams_and_eighteen_thousand_requests() -> None:
    drill = Drill.named("head-pod", load=Load(short_per_s=200, streams=150))
    world = replace(LOSES, before_s=30, short_per_s=200, streams=150, stream_s=7, worker_lost=(9, 30), both_lost=(20, 30), drill=drill)
    found, those = made(world)
    text = render.html(found, those)
    lost = [r.id for r in those if r.kind == "stream" and not r.ok]
    assert len(lost) > 300
    assert [n for n in lost if f"<title>stream {n}: " not in text] == []
    assert len(text) < 1_500_000


@pytest.mark.parametrize(
    "changes",
    [
        {"aborted": "stopped"},
        {"load": None},
        {"fault_at": None, "aborted": "no steady state"},
        {"snapshots": (), "events": (), "fault_at": None},
    ],
)
def test_a_drill_without_a_verdict_has_a_report_too(changes: dict[str, object]) -> None:
    seen = observation(SURVIVES).model_copy(update=changes)
    for those in (records(SURVIVES), []):
        page = Page(render.html(*made(seen=seen, those=those)))
        assert "so nothing can be said" in page.words or "has no verdict" in page.words


def test_a_drill_with_one_request_has_a_report() -> None:
    one = records(SURVIVES)[:1]
    assert "1 sent" in render.html(*made(those=one))


def test_the_report_says_how_answers_were_compared() -> None:
    seen = observation(SURVIVES)
    assert seen.load
    checked = seen.model_copy(update={"load": seen.load.model_copy(update={"checks": {"short": "ids", "stream": "not-empty"}})})
    text = render.html(*made(seen=checked))
    assert "short requests: the same tokens" in text
    assert "streams: not empty" in text
    assert "<dt>Answers</dt>" not in render.html(*made())


def test_the_name_of_a_pod_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>"
    seen = observation(LOSES)
    seen = seen.model_copy(update={"events": (Event(t=T0 + 5, what=evil, kind="trouble", subject=evil, detail=evil),)})
    those = [replace(r, detail=evil) for r in records(LOSES)]
    text = render.html(*made(LOSES, seen, those))
    assert evil not in text
    assert Page(text).open == []


def test_the_command_line_writes_report_and_picture(tmp_path: Path) -> None:
    archive.write(tmp_path, *made(LOSES))
    evidence, records = str(tmp_path / "evidence.json"), str(tmp_path / "records.jsonl")
    html, svg = tmp_path / "again.html", tmp_path / "picture.svg"
    assert render.main([evidence, records, "-o", str(html), "--picture", str(svg), "--span", "-20", "60"]) == 0
    assert html.read_text() == (tmp_path / "report.html").read_text()
    assert svg.read_text().startswith("<svg xmlns=")


def test_the_command_line_refuses_files_that_are_not_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.write(tmp_path, *made())
    evidence, records, other = (str(tmp_path / name) for name in ("evidence.json", "records.jsonl", "junit.xml"))
    assert render.main([other, records, "-o", str(tmp_path / "x.html")]) == 2
    assert render.main([evidence, evidence, "-o", str(tmp_path / "x.html")]) == 2
    assert "not the evidence" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
