"""The picture is valid SVG, to scale and readable."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from drill_runs import LOSES, SURVIVES, T0, World, observation, records
from hypothesis import given
from hypothesis import strategies as st

from drills import evidence
from drills.judge.traffic import on_observers_clock
from drills.judge.verdict import judge
from drills.records import Record
from drills.report.picture.drill import draw
from drills.report.picture.events import labels
from drills.report.picture.marks import mark
from drills.report.picture.requests import rate_panel
from drills.report.picture.scale import TimeAxis, bin_width, nice_step
from drills.report.picture.streams import lanes

ANY = records(SURVIVES)[0]
SVG = "{http://www.w3.org/2000/svg}"


def picture(world: World, **options: object) -> ElementTree.Element:
    those, seen = records(world), observation(world)
    found = evidence.make_evidence(world.drill, seen, those, judge(world.drill, seen, those), target="embedded")
    return ElementTree.fromstring(draw(found, those, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "world", [SURVIVES, LOSES, replace(SURVIVES, streams=0), World(before_s=8, after_s=24), World(before_s=300, after_s=1500)]
)
def test_the_picture_is_well_formed_and_has_a_title_for_a_drill_of_any_length(world: World) -> None:
    root = picture(world, alone=True, title="With")
    assert root.find(f"{SVG}title") is not None
    assert root.find(f"{SVG}desc") is not None
    assert any((t.text or "").startswith("With: ") for t in root.iter(f"{SVG}text"))


@pytest.mark.parametrize("world", [SURVIVES, LOSES])
def test_nothing_is_drawn_outside_the_picture(world: World) -> None:
    root = picture(world, span=(-5.0, 30.0))
    width = float(root.get("width", "0"))
    for bar in root.iter(f"{SVG}rect"):
        x, w = float(bar.get("x", "0")), float(bar.get("width", "0"))
        assert x >= -1e-6
        assert x + w <= width + 0.01


def test_two_pictures_with_the_same_span_have_the_same_scale() -> None:
    def fault(world: World) -> str | None:
        return next(line.get("x1") for line in picture(world, span=(-20.0, 60.0)).iter(f"{SVG}line") if line.get("class") == "mark-fault")

    assert fault(SURVIVES) == fault(LOSES) is not None


def test_only_the_requested_panels_are_drawn() -> None:
    names = [t.text for t in picture(SURVIVES, parts=("streams", "pods")).iter(f"{SVG}tspan") if t.get("class") == "name"]
    assert names == ["Pods", "Token streams"]


def test_a_lost_stream_that_began_within_the_span_is_marked_even_if_it_ended_later() -> None:
    lost = [r for r in on_observers_clock(records(LOSES), T0) if r.kind == "stream" and r.outcome == "hung"]
    titles = [t.text or "" for t in picture(LOSES, span=(-20.0, 12.0)).iter(f"{SVG}title")]
    within = [r for r in lost if r.due < 12 < r.end]
    assert within
    assert all(any(t.startswith(f"stream {r.id}:") for t in titles) for r in within)


def test_a_title_cannot_become_markup() -> None:
    assert any("<b>&" in (t.text or "") for t in picture(SURVIVES, alone=True, title="<b>&").iter(f"{SVG}text"))


def test_every_way_of_losing_a_request_has_its_own_shape() -> None:
    assert len({mark(how, 0, 0) for how in ("cut", "hung", "refused", "wrong")}) == 4


def test_the_bars_show_the_true_rate_at_both_ends() -> None:
    short = [r for r in on_observers_clock(records(SURVIVES), T0) if r.kind == "short"]
    panel = rate_panel(TimeAxis(-21, 66), short)
    heights = {float(r.get("height", "0")) for r in ElementTree.fromstring(f"<g>{panel.body}</g>").iter("rect")}
    assert heights == {84.0}


def test_labels_in_one_row_do_not_overlap() -> None:
    those, seen = records(LOSES), observation(LOSES)
    found = evidence.make_evidence(LOSES.drill, seen, those, judge(LOSES.drill, seen, those), target="embedded")
    axis = TimeAxis(-20, 66)
    placed = labels(found.events, axis)
    assert len(placed) >= 4
    for a in placed:
        for b in placed:
            if a.row == b.row and a.t < b.t:
                assert axis.x(a.t) + 5 + 6.3 * len(a.words) <= axis.x(b.t)


def record(due: float, took: float, n: int) -> Record:
    return replace(ANY, id=n, kind="stream", due=due, sent=due, end=due + took)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20)), max_size=60))
def test_streams_that_share_a_row_do_not_overlap(spans: list[tuple[float, float]]) -> None:
    those = [record(due, took, n) for n, (due, took) in enumerate(sorted(spans))]
    rows = lanes(those, room_s=1.0)
    for n, a in enumerate(those):
        for m, b in enumerate(those[n + 1 :], n + 1):
            assert rows[n] != rows[m] or a.end <= b.due


@given(st.floats(1e-3, 1e6), st.integers(1, 300))
def test_a_nice_step_makes_no_more_parts_than_allowed(span: float, most: int) -> None:
    assert span / nice_step(span, most) <= most * (1 + 1e-6)


@given(st.floats(1, 4000))
def test_there_are_never_more_than_some_two_hundred_bars(span: float) -> None:
    assert span / bin_width(span) <= 201
    assert bin_width(20) == 1


@given(st.floats(-2000, -1), st.floats(1, 4000))
def test_the_axis_is_labelled_at_a_few_round_moments_within_it(start: float, end: float) -> None:
    axis = TimeAxis(start, end)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 13
    assert all(axis.shows(t) for t, _ in ticks)
    assert 0 in [t for t, _ in ticks]
