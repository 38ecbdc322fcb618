"""Server-sent events are read by the load as they were written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drills.load.template import Answer, Reply
from serving import sse


@given(st.lists(st.text(min_size=1)), st.integers(min_value=1, max_value=7))
def test_events_are_read_as_they_were_written_however_their_bytes_are_cut(written: list[str], piece: int) -> None:
    text = "".join(sse.encode({"text": one}) for one in written) + sse.encode(sse.DONE)
    assert len(text.splitlines()) == text.count("\n")
    reply, data = Reply(Answer("sse", text="text", end=sse.DONE)), text.encode()
    reply.head(200, marked=True)
    ended = [reply.data(data[at : at + piece], float(at)) for at in range(0, len(data), piece)]
    assert ended.index(True) * piece <= len(data), "nothing is read after the end"
    assert (reply.text, reply.whole, len(reply.token_times)) == (written, True, len(written))
