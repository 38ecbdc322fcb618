"""Server-sent events are decoded as they were encoded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import sse


def read(text: str) -> list[sse.Event]:
    decoder = sse.Decoder()
    return [event for line in text.encode().splitlines(keepends=True) if (event := decoder.feed(line))]


@given(st.lists(st.dictionaries(st.text(), st.text())))
def test_events_are_decoded_as_they_were_encoded(written: list[dict[str, str]]) -> None:
    text = "".join(map(sse.encode, written)) + sse.encode(sse.DONE)
    *events, done = read(text)
    assert [event.json() for event in events] == written
    assert done.last
    assert not any(event.last for event in events)
    assert len(text.splitlines()) == text.count("\n")


def test_other_fields_comments_and_line_ends_are_handled_as_in_the_standard() -> None:
    text = ': a comment\r\nevent: x\r\nid: 7\r\ndata:{"a":\r\ndata: 1}\r\n\r\n\r\n: keeps alive\n\n'
    assert [event.json() for event in read(text)] == [{"a": 1}]


@pytest.mark.parametrize("data", ["[1]", "7", "null"])
def test_data_that_is_not_a_json_object_is_an_error(data: str) -> None:
    with pytest.raises(ValueError, match="not an object"):
        sse.Event(data).json()
    with pytest.raises(json.JSONDecodeError):
        sse.Event("{").json()
