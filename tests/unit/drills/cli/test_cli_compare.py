"""A second drill or series is worse than the first only where chance alone does not explain it."""

from __future__ import annotations

from pathlib import Path

import pytest
from drill_runs import LOSES, SURVIVES
from series_runs import fault, made, rows

from drills.cli.compare import text
from drills.cli.main import main
from drills.compare import Incomparable, compare, read
from drills.evidence import BadEvidence, Evidence
from drills.series import SeriesEvidence, Spread


def series(**changes: object) -> SeriesEvidence:
    return made(rows(8)).model_copy(update=changes)


def single(lost: bool = False) -> Evidence:
    return fault(LOSES if lost else SURVIVES)[0]


def test_a_series_with_the_same_figures_is_not_worse() -> None:
    assert compare(series(), series()).why == ()


def test_a_series_is_worse_when_it_recovers_slower_than_the_other_ever_did() -> None:
    before = series(recovery_s=Spread(p50=8.0, p95=9.0, worst=10.0))
    assert compare(before, series(recovery_s=Spread(p50=9.9, p95=30.0, worst=40.0))).why == ()
    (why,) = compare(before, series(recovery_s=Spread(p50=10.1, p95=11.0, worst=11.0))).why
    assert why == "recovery, median: 8.0 s before, 10.1 s now"
    assert compare(before, series(recovery_s=Spread(p50=None, p95=None, worst=None))).why


def test_a_series_is_worse_when_it_loses_what_the_other_did_not() -> None:
    lossy = made(rows(8, lossy=(3,)))
    why = compare(made(rows(8)), lossy).why
    assert any(reason.startswith("missed, and kept before: ") for reason in why)
    assert any("requests and streams lost: 0 before" in reason for reason in why)
    assert compare(lossy, made(rows(8))).why == ()


def test_of_single_drills_only_the_promises_are_compared() -> None:
    assert compare(single(), single()).why == ()
    assert compare(single(), single(lost=True)).why
    assert compare(single(lost=True), single()).why == ()


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (single(), "a single drill and the other a series"),
        (series(verdict="void", headline="no load"), "the second is void"),
        (
            series(definition=SURVIVES.drill.model_copy(update={"load": SURVIVES.drill.load.model_copy(update={"streams": 3})})),
            "differ in streams",
        ),
        (series(definition=SURVIVES.drill.other_grace()), "of the faults"),
    ],
)
def test_what_is_not_alike_is_not_compared(other: SeriesEvidence | Evidence, told: str) -> None:
    with pytest.raises(Incomparable, match=told):
        compare(series(), other)


def test_evidence_is_read_from_its_file_or_its_folder_whatever_the_file_is_called(tmp_path: Path) -> None:
    (tmp_path / "series.json").write_text(series().to_json())
    (tmp_path / "old.json").write_text(series().to_json())
    (tmp_path / "evidence.json").write_text(single().to_json())
    assert read(tmp_path) == read(tmp_path / "series.json") == read(tmp_path / "old.json") == series()
    assert read(tmp_path / "evidence.json") == single()
    with pytest.raises(BadEvidence, match="has no series"):
        read(tmp_path / "nothing")


def test_the_command_prints_both_and_tells_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(made(rows(8)).to_json())
    (tmp_path / "b.json").write_text(made(rows(8, lossy=(3,))).to_json())
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 0
    assert "the second is not worse" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
    told = capsys.readouterr().out
    assert "worse: " in told
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "c.json")]) == 2
    assert "cannot be compared" in capsys.readouterr().err
    assert text(compare(series(), series())).splitlines()[0].split() == ["first", "second"]
