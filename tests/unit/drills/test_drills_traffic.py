"""Requests by phase, and their counts and percentiles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drill_runs import LOSES, T0, records
from hypothesis import given
from hypothesis import strategies as st

from drills.judge.traffic import PHASES, longest_gap_s, lost_at, nearest_rank, on_observers_clock, phase_of, phase_seen, phases_seen
from drills.records import Record

ANY = records(LOSES)[-1]
moments = st.floats(min_value=-100, max_value=100)


def stream(tokens: tuple[float, ...], end: float, outcome: str = "finished", due: float = 0.0) -> Record:
    return replace(ANY, due=due, sent=due, token_times=tokens, first_token=tokens[0] if tokens else None, end=end, outcome=outcome)  # type: ignore[arg-type]


@given(st.lists(st.tuples(moments, st.floats(min_value=0, max_value=50))), st.none() | moments, st.none() | moments)
def test_phases_partition_the_records(spans: list[tuple[float, float]], fault: float | None, recovered: float | None) -> None:
    those = [replace(stream((), due + took, due=due), id=n) for n, (due, took) in enumerate(spans)]
    phases = phases_seen(those, fault, recovered)
    assert tuple(phases) == PHASES
    for name, seen in phases.items():
        assert seen == phase_seen(name, [r for r in those if phase_of(r, fault, recovered) == name])


def test_a_stream_under_way_at_the_fault_is_in_phase_during_and_one_that_ended_is_in_phase_before() -> None:
    assert phase_of(stream((), 12.0, due=8.0), 10.0, 20.0) == "during"
    assert phase_of(stream((), 9.9, due=8.0), 10.0, 20.0) == "before"
    assert phase_of(stream((), 25.0, due=19.0), 10.0, 20.0) == "during"
    assert phase_of(stream((), 25.0, due=20.0), 10.0, 20.0) == "after"
    assert phase_of(stream((), 999.0, due=990.0), 10.0, None) == "during"
    assert phase_of(stream((), 999.0), None, None) == "before"


@pytest.mark.parametrize(("percent", "value"), [(50, 3), (99, 5), (20, 1), (21, 2), (100, 5), (0, 1)])
def test_percentiles_are_nearest_rank(percent: float, value: float) -> None:
    assert nearest_rank([5, 1, 4, 2, 3], percent) == value


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.floats(min_value=0.1, max_value=100))
def test_a_percentile_is_one_of_the_values_and_is_not_exceeded_by_too_many(values: list[float], percent: float) -> None:
    found = nearest_rank(values, percent)
    assert found in values
    assert sum(v <= found for v in values) >= percent / 100 * len(values) - 1e-6


def test_no_values_have_no_percentile() -> None:
    assert nearest_rank([], 99) is None


def test_failed_requests_have_no_latency_but_are_counted() -> None:
    short = [r for r in records(LOSES) if r.kind == "short"]
    phase = phase_seen("during", short)
    assert phase.failed == sum(not r.ok for r in short) > 0
    assert phase.p50_ms == nearest_rank([r.latency_s * 1000 for r in short if r.ok], 50)
    assert phase_seen("during", [r for r in short if not r.ok]).p99_ms is None


def test_the_longest_silence_counts_from_due_and_up_to_the_end_of_a_stream_that_did_not_finish() -> None:
    assert longest_gap_s(stream((1, 2, 4), 9.0, due=0)) == 2
    assert longest_gap_s(stream((3, 4, 5), 5.0, due=0)) == 3
    assert longest_gap_s(stream((1, 2, 4), 9.0, "hung", due=0)) == 5
    assert longest_gap_s(stream((), 9.0, "refused", due=8)) == 1


def test_a_request_is_lost_when_it_was_cut_fell_silent_or_was_due() -> None:
    assert lost_at(stream((1, 2), 3, "cut")) == 3
    assert lost_at(stream((1, 2), 12, "hung")) == 2
    assert lost_at(stream((), 5, "refused", due=4)) == 4


def test_the_clock_offset_is_subtracted_from_every_time() -> None:
    ahead = replace(LOSES, clock_offset_s=7.5)
    moved = on_observers_clock(records(ahead), 7.5)
    straight = on_observers_clock(records(LOSES), 0)
    assert [r.id for r in moved] == [r.id for r in straight]
    assert all(
        a.end == pytest.approx(b.end, abs=1e-5) and a.token_times == pytest.approx(b.token_times)
        for a, b in zip(moved, straight, strict=True)
    )
    assert moved[0].due == pytest.approx(T0 - 20)
