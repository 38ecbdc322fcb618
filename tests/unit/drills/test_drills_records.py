"""Records of requests are read as they were written, and nothing else is accepted as a record."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drills.records import Kind, Outcome, Record, read_lines

times = st.floats(min_value=1e9, max_value=3e9)
any_record = st.builds(
    Record,
    id=st.integers(min_value=0),
    kind=st.sampled_from(get_args(Kind)),
    due=times,
    sent=times,
    first_token=st.none() | times,
    token_times=st.lists(times, max_size=5).map(tuple),
    expected_tokens=st.integers(min_value=0),
    end=times,
    outcome=st.sampled_from(get_args(Outcome)),
    status=st.none() | st.integers(100, 599),
    detail=st.text(),
)


@given(any_record)
def test_a_record_is_read_from_its_line_as_it_was(record: Record) -> None:
    line = record.to_line()
    assert Record.from_line(line) == record
    assert line.count("\n") == 1


@given(st.lists(any_record, max_size=4), st.integers(min_value=1))
def test_a_line_that_is_still_being_written_is_left_out(records: list[Record], cut: int) -> None:
    lines = [record.to_line() for record in records]
    partial = [*lines, lines[-1][: -1 - cut % (len(lines[-1]) - 1)]] if lines else lines
    assert list(read_lines(partial)) == records


def a_line(**changes: object) -> str:
    record = Record(1, "short", 1.0, 1.0, None, (), 4, 2.0, "refused", None)
    return json.dumps({**json.loads(record.to_line()), **changes}) + "\n"


@pytest.mark.parametrize(
    "line",
    [a_line(kind="long"), a_line(outcome="fine"), a_line(more=1), "{}\n", "[]\n", "no json\n"],
    ids=["kind", "outcome", "unknown field", "fields missing", "no object", "no json"],
)
def test_a_line_that_is_not_a_record_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.from_line(line)


def test_latency_counts_from_the_time_when_the_request_was_due() -> None:
    record = Record(1, "short", 10.0, 13.0, None, (), expected_tokens=4, end=15.0, outcome="hung", status=None)
    assert record.latency_s == 5.0
    assert not record.ok
