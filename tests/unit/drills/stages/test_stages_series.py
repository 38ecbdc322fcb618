"""A series of faults from its first request to its report, on a cluster in memory: the order of its steps, also when the runner dies."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drill_runs import deleted
from drilled_cluster import JOBS, TIMING, TRAFFIC, Bench, Cluster, Killed, bench, fails_after

from blocks.parameters import Service
from drills.definition import Drill, Series, Slos
from drills.evidence import Evidence
from drills.kubernetes.api import Unavailable
from drills.records import Record
from drills.report.render import read_records
from drills.runner import journal
from drills.runner.journal import Journal, Lock
from drills.stages import judging, steps
from drills.stages.drill import Broken
from flows import checks

THREE = Series(repeat=3)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Bench]:
    with bench(Cluster(), tmp_path) as found:
        yield found


def told(bench: Bench) -> Any:
    """Return the content of series.json."""
    return json.loads((bench.folder / "series.json").read_text())


def evidence(bench: Bench, number: int) -> Evidence:
    """Return the evidence of one fault."""
    return Evidence.load(bench.folder / f"fault-{number:03}" / "evidence.json")


def struck(bench: Bench) -> list[str]:
    """Return the heads that were deleted."""
    return [deletion.uid for deletion in bench.cluster.deletions]


def test_a_single_fault_has_its_evidence_in_the_folder_of_the_run(here: Bench) -> None:
    result = here.drill(Series())
    assert (result.passed, result.page) == (True, "report.html")
    assert {path.name for path in here.folder.iterdir()} == {"evidence.json", "records.jsonl", "report.html", "junit.xml", "raw"}
    found = Evidence.load(here.folder / "evidence.json")
    assert (found.number, found.of) == (1, 1)
    assert found.headline == result.headline
    assert found.footprint.dead_actors == 2


def test_each_of_several_faults_is_done_once_and_has_its_own_folder(here: Bench) -> None:
    result = here.drill(THREE)
    assert result.passed, result.headline
    # The number of requests depends on how the threads take turns, and by more on a busy machine.
    assert re.match(r"Head pod deleted 3 times, and nobody noticed: all \d+ requests and all \d+ token streams", result.headline)
    assert struck(here) == ["head-0", "head-1", "head-2"]
    assert {path.name for path in here.folder.iterdir()} == {
        *(f"fault-00{n}" for n in (1, 2, 3)),
        "series.json",
        "series.html",
        "junit.xml",
        "raw",
    }
    for number in (1, 2, 3):
        folder = here.folder / f"fault-{number:03}"
        assert {path.name for path in folder.iterdir()} == {"evidence.json", "records.jsonl", "report.html", "junit.xml"}
        assert (evidence(here, number).number, evidence(here, number).of) == (number, 3)
    assert [row["folder"] for row in told(here)["faults"]] == ["fault-001", "fault-002", "fault-003"]


def test_a_series_has_one_load_and_counts_each_of_its_requests_once(here: Bench) -> None:
    here.drill(THREE)
    jobs = [path for method, path, _ in here.cluster.requests if method == "POST" and path.endswith("/jobs")]
    assert len(jobs) == 1
    ids = [{r.id for r in read_records(here.folder / f"fault-{n:03}" / "records.jsonl")} for n in (1, 2, 3)]
    assert ids[0] & ids[1], "the steady time between two faults is after the one and before the other"
    found = told(here)
    assert found["requests"]["sent"] + found["streams"]["sent"] == len(ids[0] | ids[1] | ids[2])


def test_the_steady_time_after_one_fault_and_before_the_next_is_waited_for_once(here: Bench) -> None:
    here.drill(THREE)
    first, second, third = (deletion.at for deletion in here.cluster.deletions)
    recovery = evidence(here, 1).recovery_s
    assert recovery is not None
    longest = recovery + max(TIMING.before_s, TIMING.after_s) + 3 * TIMING.poll_s
    assert recovery + TIMING.after_s <= second - first <= longest
    assert third - second <= longest


def test_graces_in_turn_begin_with_that_of_the_drill(here: Bench) -> None:
    assert here.drill(Series(repeat=4, graces="in-turn")).passed
    assert [deletion.forced for deletion in here.cluster.deletions] == [False, True, False, True]
    assert [evidence(here, n).drill for n in (1, 2)] == ["head-pod", "head-pod-forced"]
    assert [row["grace"] for row in told(here)["faults"]] == ["default", "forced", "default", "forced"]


def test_a_loss_belongs_to_the_fault_before_it_and_the_next_fault_waits_for_steady_time(here: Bench) -> None:
    here.cluster.lost = fails_after(here.cluster, fault=1, seconds=25)
    result = here.drill(THREE)
    assert result.verdict == "failed"
    lost = [(row["verdict"], row["requests"]["lost"] + row["streams"]["lost"]) for row in told(here)["faults"]]
    assert lost == [("failed", 1), ("passed", 0), ("passed", 0)]
    assert told(here)["lossy"] == {"lossy": 1, "of": 3, "upper": pytest.approx(0.8646, abs=1e-4)}
    first, second, _ = (deletion.at for deletion in here.cluster.deletions)
    assert second - first >= 25 + TIMING.before_s, "the steady time starts again with the loss"
    assert "users noticed once, at fault 1: " in result.headline


def test_a_series_can_stop_at_the_first_loss(here: Bench) -> None:
    here.cluster.lost = fails_after(here.cluster, fault=2, seconds=3)
    result = here.drill(Series(repeat=5, stop_at_first_loss=True))
    assert result.verdict == "failed"
    assert len(struck(here)) == 2
    assert (told(here)["done"], len(told(here)["faults"])) == (2, 2)
    assert "after fault 2, and the series was to stop at the first loss" in " ".join(told(here)["why"])


def test_a_series_that_stops_at_a_loss_within_the_promise_is_not_failed_by_the_stop(here: Bench) -> None:
    here.cluster.lost = fails_after(here.cluster, fault=2, seconds=3)
    promised = Slos(max_failed_requests=5, max_lost_streams=5)
    drill = checks.checked_drill("head-pod", Service(), TIMING, TRAFFIC, promised)
    result = here.drill(Series(repeat=5, stop_at_first_loss=True), drill=drill)
    assert (result.verdict, len(struck(here))) == ("passed", 2), told(here)["why"]
    assert "ended after 2 of 5 faults, as it was to stop at the first loss" in result.headline
    assert told(here)["early"]["by"] == "request"


def test_a_service_that_does_not_recover_ends_the_series_and_the_done_faults_are_judged(here: Bench) -> None:
    here.cluster.recovers = lambda number: 12.0 if number < 2 else 1e6
    result = here.drill(Series(repeat=5))
    assert result.verdict == "failed"
    assert struck(here) == ["head-0", "head-1"]
    assert [row["verdict"] for row in told(here)["faults"]] == ["passed", "failed"]
    assert "The series ended after 2 of 5 faults: the service did not recover from fault 2" in " ".join(told(here)["why"])


def test_a_steady_state_that_does_not_return_ends_the_series(here: Bench) -> None:
    here.cluster.lost = lambda end: len(here.cluster.deletions) == 2 and end % 7 < 1
    result = here.drill(Series(repeat=5))
    assert result.verdict == "failed"
    assert struck(here) == ["head-0", "head-1"]
    assert "The series ended after 2 of 5 faults: the steady state did not hold" in " ".join(told(here)["why"])


def test_a_series_that_was_never_in_its_steady_state_does_no_fault(here: Bench) -> None:
    here.cluster.lost = lambda end: True
    result = here.drill(THREE)
    assert (result.verdict, struck(here)) == ("aborted", [])
    assert "requests failed before the fault" in result.headline
    assert told(here)["lossy"]["of"] == 0


def test_a_load_that_dies_ends_the_series_without_a_verdict(here: Bench) -> None:
    here.cluster.load_dies = lambda: len(here.cluster.deletions) == 2
    result = here.drill(Series(repeat=5))
    assert result.verdict == "void"
    assert [row["verdict"] for row in told(here)["faults"]] == ["passed", "void"]
    assert "The series ended after 2 of 5 faults: the load" in " ".join(told(here)["why"])


def test_records_that_cannot_be_read_for_a_moment_prolong_the_steady_time_and_do_not_end_the_series(here: Bench) -> None:
    here.cluster.records_away = lambda: len(here.cluster.deletions) == 1 and 20 < here.cluster.clock.now - here.cluster.began < 60
    assert here.drill(THREE).passed
    first, second, third = (deletion.at for deletion in here.cluster.deletions)
    assert second - first >= 60, "time without readable records is not steady"
    assert third - second < 60


def test_records_that_cannot_be_read_for_longer_end_the_series(here: Bench) -> None:
    here.cluster.records_away = lambda: len(here.cluster.deletions) == 2 and here.cluster.clock.now - here.cluster.began > 20
    with pytest.raises(Broken) as ended:
        here.drill(THREE)
    assert isinstance(ended.value.error, Unavailable)
    assert ended.value.result.verdict == "void"
    assert struck(here) == ["head-0", "head-1"]
    assert "The series ended after 2 of 3 faults: Unavailable" in " ".join(told(here)["why"])


def test_an_error_that_ends_a_series_with_recorded_losses_is_a_verdict(here: Bench) -> None:
    here.cluster.lost = fails_after(here.cluster, fault=1, seconds=3)
    here.cluster.records_away = lambda: len(here.cluster.deletions) == 2 and here.cluster.clock.now - here.cluster.began > 20
    assert here.drill(THREE).verdict == "failed"


def test_an_error_before_the_first_fault_is_raised_at_once_and_leaves_neither_load_nor_lock(here: Bench) -> None:
    here.cluster.records_away = lambda: True
    with pytest.raises(Unavailable):
        here.drill(THREE)
    assert struck(here) == []
    assert not [path for path in here.cluster.objects if path.startswith(JOBS)]
    assert Lock(here.runner, Service().subject, "").holder() == ""
    found = journal.read(here.runner, Service().subject)
    assert found is not None
    assert found.state == "closed"


def test_a_run_that_dies_before_its_evidence_is_kept_goes_on_with_its_verdict_and_another_attempt_drills_again(here: Bench) -> None:
    first = here.drill(Series())
    assert here.drill(Series()) == first
    assert struck(here) == ["head-0"]
    steps.close(here.runner, Service().subject, "12345678-run")
    assert here.drill(Series()).passed
    assert struck(here) == ["head-0", "head-1"]


def asked_in(series: Series, folder: Path, drill: Drill | None = None) -> int:
    """Return the number of API requests of a whole drill until its load is stopped."""
    with bench(Cluster(), folder / "whole") as whole:
        whole.drill(series, drill=drill)
        return whole.runner.asked_at_stop


def test_a_series_is_finished_without_a_repeated_fault_whenever_its_runner_dies(tmp_path: Path) -> None:
    """It is resumed in four ways in turn: at once or after a while, and with the raw evidence of the earlier process or without any."""
    series, killed = Series(repeat=3, graces="in-turn"), 0
    ways = itertools.cycle(itertools.product((0.0, 25.0), (False, True)))
    for lives, (away_s, elsewhere) in zip(range(1, asked_in(series, tmp_path), 17), ways, strict=False):
        with bench(Cluster(), tmp_path / str(lives)) as here:
            try:
                here.drill(series, lives)
            except Killed:
                killed += 1
            here.cluster.clock.sleep(away_s)
            if elsewhere:
                shutil.rmtree(here.folder, ignore_errors=True)
            result = here.drill(series)
            assert struck(here) == ["head-0", "head-1", "head-2"], lives
            assert [deletion.forced for deletion in here.cluster.deletions] == [False, True, False]
            assert told(here)["done"] == 3
            assert told(here)["requests"]["lost"] == 0
            assert result.passed or elsewhere, (lives, told(here)["why"])
            assert result.verdict in ("passed", "void"), (lives, told(here)["why"])
    assert killed > 10


def twice() -> Drill:
    """The drill that deletes the head, and the new head once it is ready."""
    return checks.checked_drill("head-twice-within-a-minute", Service(), TIMING, TRAFFIC, None)


def test_a_drill_with_two_faults_does_each_in_its_moment_and_recovery_counts_from_the_last(here: Bench) -> None:
    result = here.drill(Series(repeat=2), drill=twice())
    assert result.passed, told(here)["why"]
    assert struck(here) == ["head-0", "head-1", "head-2", "head-3"]
    for number in (1, 2):
        found = evidence(here, number)
        first, second = found.strikes
        assert 12 <= second.at - first.at <= 12 + 2 * TIMING.poll_s + 1, "the new head is ready after 12 s"
        assert found.fault_at == first.at
        assert found.recovery_s == pytest.approx(12, abs=2 * TIMING.poll_s)
        assert [event.subject for event in found.events if event.kind == "fault"] == [first.target.name, second.target.name]


def test_a_drill_with_two_faults_does_none_twice_whenever_its_runner_dies(tmp_path: Path) -> None:
    killed = 0
    for lives in range(1, asked_in(Series(), tmp_path, twice()), 17):
        with bench(Cluster(), tmp_path / str(lives)) as here:
            try:
                here.drill(Series(), lives, twice())
            except Killed:
                killed += 1
            result = here.drill(Series(), drill=twice())
            assert struck(here) == ["head-0", "head-1"], lives
            assert result.passed, (lives, result.headline)
    assert killed > 5


@pytest.mark.parametrize("ends_early", [False, True])
@pytest.mark.parametrize("before", ["judge", "windows", "write_series", "versions", "release"])
def test_a_run_that_resumes_after_the_end_of_the_load_only_judges(here: Bench, before: str, ends_early: bool) -> None:
    here.cluster.recovers = lambda number: 12.0 if number < 2 or not ends_early else 1e6
    series = Series(repeat=3 if ends_early else 2)
    where: Any = {"judge": judging.verdict, "release": steps, "write_series": judging.archive}.get(before, judging)

    def dies(*_: Any, **__: Any) -> None:
        here.runner.lives = 0
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, before, dies)
        with pytest.raises(Killed):
            here.drill(series)
    here.cluster.clock.sleep(600)
    result = here.drill(series)
    assert (result.verdict, struck(here)) == ("failed" if ends_early else "passed", ["head-0", "head-1"])
    assert [row["verdict"] for row in told(here)["faults"]] == ["passed", "failed" if ends_early else "passed"]
    assert (told(here)["early"] or {"by": None})["by"] == ("service" if ends_early else None)


def test_the_journal_of_the_longest_series_fits_into_a_config_map(here: Bench) -> None:
    assert here.drill(Series()).passed
    done = journal.read(here.runner, Service().subject)
    assert done is not None
    assert done.before is not None
    note = deleted("mistral-x7k2p-head-9qx4z-which-is-long", "12345678-1234-1234-1234-123456789012", 1790000000.1234567)
    longest = Journal(owner=done.owner, drill=done.drill, started=done.started, before=done.before, faults=(note,) * 1000)
    assert len(longest.model_dump_json(exclude_defaults=True)) < 2**20 / 4


def test_snapshots_and_records_of_earlier_faults_are_not_read_again_at_every_fault(here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a series of a thousand faults would read a hundred gigabytes."""
    from drills.runner import watch

    handed_out: list[int] = []
    on_observers_clock = watch.on_observers_clock

    def counted(unseen: Iterable[Record], offset_s: float) -> list[Record]:
        found = on_observers_clock(unseen, offset_s)
        handed_out.append(len(found))
        return found

    monkeypatch.setattr(watch, "on_observers_clock", counted)
    here.drill(Series(repeat=12))
    all_of_them = told(here)["requests"]["sent"] + told(here)["streams"]["sent"]
    assert sum(handed_out) <= 1.2 * all_of_them
    looks = [len(page.read_text().splitlines()) for page in sorted((here.folder / "raw").rglob("seen-*.jsonl"))]
    assert len(looks) == 13
    assert max(looks[1:]) < 2 * min(looks[1:])
