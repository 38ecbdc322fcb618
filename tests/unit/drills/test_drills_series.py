"""The evidence of a series: the upper bound of losses, growth, and the verdict."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from series_runs import made, rows

from drills.definition import Drill, Series, catalogue
from drills.evidence import BadEvidence
from drills.faults import DeletePod
from drills.report import archive, junit, render, terminal
from drills.series import Early, SeriesEvidence, bound, trend


@pytest.mark.parametrize(
    ("lossy", "of", "upper"),
    [
        # Published tables of one-sided 95 % Clopper–Pearson limits.
        (0, 10, 0.2589),
        (1, 10, 0.3942),
        (2, 10, 0.5069),
        (5, 10, 0.7776),
        (0, 20, 0.1391),
        (1, 20, 0.2161),
        (0, 59, 0.0495),
        (0, 100, 0.0295),
        (1, 100, 0.0466),
        (0, 300, 0.0099),
        (10, 10, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_upper_bound_of_lossy_faults_is_that_of_clopper_and_pearson(lossy: int, of: int, upper: float) -> None:
    assert bound(lossy, of).upper == pytest.approx(upper, abs=1e-4)


@given(st.integers(1, 1000))
def test_without_any_loss_the_bound_has_a_closed_form(of: int) -> None:
    assert bound(0, of).upper == pytest.approx(1 - 0.05 ** (1 / of), abs=2e-6)


@given(st.integers(1, 300), st.data())
def test_more_losses_raise_the_bound_and_more_faults_lower_it(of: int, data: st.DataObject) -> None:
    lossy = data.draw(st.integers(0, of - 1))
    found = bound(lossy, of).upper
    assert lossy / of < found <= bound(lossy + 1, of).upper
    assert bound(lossy, of + 1).upper <= found


def of_values(*values: float | None) -> list[tuple[int, float | None]]:
    return list(enumerate(values, 1))


def test_a_steady_rise_is_growth_with_its_slope() -> None:
    found = trend("Memory", "MiB", of_values(*(400 + 2.5 * n + 20 * (n % 2) for n in range(20))))
    assert (found.grows, found.first, found.values) == (True, 400, 20)
    assert found.slope == pytest.approx(2.5, abs=0.5)


@given(st.lists(st.floats(0, 1000), min_size=8, max_size=40))
def test_a_falling_figure_does_not_grow_and_never_both_a_figure_and_its_mirror(values: list[float]) -> None:
    up = trend("x", "", of_values(*values))
    down = trend("x", "", of_values(*reversed(values)))
    assert not (up.grows and down.grows)
    assert up.slope == pytest.approx(-(down.slope or 0.0), abs=2e-3)


@given(st.floats(0, 1000), st.integers(8, 60))
def test_a_constant_figure_does_not_grow(value: float, count: int) -> None:
    found = trend("x", "", of_values(*[value] * count))
    assert (found.grows, found.slope, found.chance) == (False, 0.0, 1.0)


def test_one_odd_value_is_no_growth() -> None:
    assert trend("x", "", of_values(*[20.0, 21.0, 19.5, 20.5] * 5, 900.0)).grows is False


def test_the_probability_of_a_rise_is_that_of_a_normal_distribution() -> None:
    """Ten values without a tie: 45 pairs rise, the variance is 10 × 9 × 25 / 18 = 125."""
    found = trend("x", "", of_values(*range(10)))
    assert found.chance == pytest.approx(0.5 * math.erfc(44 / math.sqrt(125) / math.sqrt(2)), abs=1e-6)


def test_a_gap_between_faults_counts_for_the_slope_and_too_few_values_are_not_judged() -> None:
    assert trend("x", "", of_values(1.0, None, None, 4.0)).slope == 1.0
    assert trend("x", "", of_values(1.0, 2.0, 3.0)).grows is None
    none = trend("x", "", of_values(None, None))
    assert (none.values, none.first, none.slope, none.grows) == (0, None, None, None)


def test_a_series_without_losses_passes_and_reports_the_upper_bound() -> None:
    found = made(rows(20))
    assert (found.verdict, found.why, found.done) == ("passed", (), 20)
    assert found.headline.startswith(
        "Head pod deleted by force 20 times, and nobody noticed: all 16,000 requests and all 2,720 token streams"
    )
    assert found.headline.endswith(f"recovery p50 {found.recovery_s.p50:.0f} s, worst {found.recovery_s.worst:.0f} s.")
    assert found.lossy.model_dump() == {"lossy": 0, "of": 20, "upper": pytest.approx(0.139, abs=1e-3)}


def test_a_failed_series_names_its_failed_faults_and_their_losses() -> None:
    found = made(rows(20, lossy=(4, 9)))
    assert found.verdict == "failed"
    assert "users noticed twice, at faults 4, 9: 416 of 16,000 requests" in found.headline
    assert [told.split(":")[0] for told in found.why[:2]] == [
        "Fault 4 (grace period 0, failed)",
        "Fault 9 (the pod's own grace period, failed)",
    ]


def test_a_failed_series_names_what_explains_all_its_failed_faults() -> None:
    first, other = (
        row.model_copy(update={"verdict": "failed", "why": ("3 lost.", "The head's Service is headless.", own)})
        for row, own in zip(rows(2), "ab", strict=True)
    )
    assert made([first, other]).why[2:] == ("The head's Service is headless.",)
    assert made([first, rows(2)[1]]).why[1:] == ("The head's Service is headless.", "a")


def test_the_percentiles_of_a_series_are_over_its_faults() -> None:
    those = [row.model_copy(update={"recovery_s": float(row.number)}) for row in rows(20)]
    assert made(those).recovery_s.model_dump() == {"p50": 10.0, "p95": 19.0, "worst": 20.0}


def test_a_leak_is_reported_and_fails_nothing() -> None:
    found = made(rows(20, leak=4))
    assert found.verdict == "passed"
    assert {one.name: one.grows for one in found.growth} == {
        "Recovery": False,
        "Memory of the head": True,
        "The cluster's entries in Redis": True,
        "Dead actors in the GCS": True,
    }


def test_a_series_with_a_void_fault_is_void_and_one_with_a_failed_fault_too_is_failed() -> None:
    those = rows(5)
    those[2] = those[2].model_copy(update={"verdict": "void", "why": ("Records are missing.",)})
    found = made(those)
    assert found.verdict == "void"
    assert "the measurement of fault 3 cannot be trusted" in found.headline
    assert found.why == ("Fault 3 (the pod's own grace period, void): Records are missing.",)
    those[4] = rows(5, lossy=(5,))[4]
    assert made(those).verdict == "failed"


@pytest.mark.parametrize(("by", "verdict"), [("service", "failed"), ("measurement", "void")])
def test_a_series_that_ended_early_never_passes_and_has_the_reason(by: str, verdict: str) -> None:
    found = made(rows(7), repeat=20, early=Early.model_validate({"reason": "it ended", "by": by}))
    assert found.verdict == verdict
    assert found.headline.startswith("Head pod deleted by force 7 of 20 times: ")
    assert "The series ended after 7 of 20 faults: it ended." in found.why


def test_a_secret_in_the_error_that_ended_a_series_is_not_in_its_evidence() -> None:
    reason = "Unavailable: GET https://admin:geheim@cluster: no answer"
    found = made(rows(3), repeat=20, early=Early(reason=reason, by="measurement"))
    assert "geheim" not in found.to_json() + render.series_html(found) + junit.series_xml(found)
    assert found.early == Early(reason="Unavailable: GET https://***@cluster: no answer", by="measurement")


@pytest.mark.parametrize(
    ("missing", "words"), [(3, "3 of 4683 records are missing"), (-3, "There are 4680 records, and 4677 requests were sent")]
)
def test_missing_or_surplus_records_of_a_series_make_it_void(missing: int, words: str) -> None:
    found = made(rows(5), missing=missing)
    assert found.verdict == "void"
    assert "5 times: no loss is on record, but its records cannot be trusted" in found.headline
    assert words in " ".join(found.why)


def test_the_other_grace_of_a_drill_is_that_of_its_sibling_in_the_catalogue() -> None:
    own = Drill.named("head-pod")
    other = Series(graces="in-turn").drill(own, 2)
    assert (other.name, other.title, other.fault) == ("head-pod-forced", "Head pod deleted by force", DeletePod(grace="forced"))
    assert Series(graces="in-turn").drill(own, 3) is own
    assert Series().drill(own, 2) is own
    for name in catalogue():
        drill = Drill.named(name)
        assert drill.other_grace().other_grace() == drill
    lonely = own.model_copy(update={"faults": (DeletePod(of="worker", which="idlest"),), "title": "Flood"})
    forced = DeletePod(of="worker", which="idlest", grace="forced")
    assert (lonely.other_grace().title, lonely.other_grace().fault) == ("Flood", forced)


def test_the_evidence_of_a_series_can_be_read_again_and_other_files_are_refused(tmp_path: Path) -> None:
    found = made(rows(5, lossy=(2,)))
    archive.write_series(tmp_path, found)
    assert SeriesEvidence.load(tmp_path / "series.json") == found
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(BadEvidence, match="not the evidence of a series"):
        SeriesEvidence.load(tmp_path / "x.json")


def test_the_report_of_a_series_can_be_redrawn(tmp_path: Path) -> None:
    archive.write_series(tmp_path, made(rows(5)))
    assert render.main([str(tmp_path / "series.json"), "-o", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == (tmp_path / "series.html").read_text()


class Links(HTMLParser):
    """The links of a page and everything that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, value) for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize("count", [1, 3, 20, 1000])
def test_the_report_of_a_series_links_the_report_of_each_fault_and_loads_nothing(count: int) -> None:
    page = render.series_html(made(rows(count, lossy=(2,), leak=1)))
    assert Links(page).found == [("a", f"fault-{n:03}/report.html") for n in range(1, count + 1)]
    assert page.count("<title>fault ") == count, "a mark in the picture"


def test_a_series_without_any_measurement_has_a_report_too() -> None:
    blank = {"recovery_s": None, "longest_silence_s": None, "p99_before_ms": None, "p99_during_ms": None}
    those = [row.model_copy(update={**blank, "footprint": type(row.footprint)()}) for row in rows(3)]
    page = render.series_html(made(those))
    assert "not seen" in page
    assert '<svg class="lw" viewBox' not in page


def test_junit_has_a_case_for_each_fault_and_one_for_the_series() -> None:
    suite = ElementTree.fromstring(junit.series_xml(made(rows(5, lossy=(2,)))))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "2", "0")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["fault 2", "the series"]
    void = ElementTree.fromstring(junit.series_xml(made(rows(5), missing=1)))
    assert (void.get("failures"), void.get("errors")) == ("0", "1")


def test_the_terminal_shows_the_figures_of_a_series() -> None:
    told = terminal.summary(made(rows(20, lossy=(4,), leak=4)))
    assert told.startswith("✘ FAILED\n")
    assert "1 of 20  (with a confidence of 95 %: below 21.6%)" in told
    assert "Memory of the head" in told
