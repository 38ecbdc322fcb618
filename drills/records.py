"""The record that the load generator writes for every request, and how to read it.

Standard library only, because the load runs in any image. A record is one line of JSON in an append-only file,
written when the request has ended, so the lines are in the order of ending. All times are seconds since the epoch on the clock of the
load generator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Literal, get_args

Kind = Literal["short", "stream"]
Outcome = Literal["finished", "cut", "hung", "refused", "wrong"]
"""How a request ended.

finished: the complete answer arrived. cut: the other side ended it after at least one token or piece. hung: no byte arrived for longer
than the client waits. refused: no answer, or a status other than 200. wrong: complete, but not the answer of a healthy server.
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One request, from the time it was due to its end."""

    id: int
    kind: Kind
    due: float
    """Time at which the request should have been sent; latency counts from here, so a stalled sender cannot hide a stall."""
    sent: float
    first_token: float | None
    token_times: tuple[float, ...]
    """Arrival of every token, the first included; of every piece of text or the first and last byte where there are no tokens."""
    expected_tokens: int
    """Tokens of the right answer; 0 where that is not known, because answers differ."""
    end: float
    outcome: Outcome
    status: int | None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the user got the complete and right answer."""
        return self.outcome == "finished"

    @property
    def latency_s(self) -> float:
        """Seconds from the time it was due to its end."""
        return self.end - self.due

    def to_line(self) -> str:
        """Return the record as one line of JSON, newline included."""
        return json.dumps({name: getattr(self, name) for name in _FIELDS}, separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Record:
        """Return the record that `to_line` wrote.

        Raises:
            ValueError: the line is not a record; the message says why.
        """
        raw = json.loads(line)
        if not isinstance(raw, dict) or not raw.keys() <= _FIELDS.keys() or not _FIELDS.keys() - {"detail"} <= raw.keys():
            raise ValueError(f"not a request record: {line[:120]!r}")
        if raw["kind"] not in get_args(Kind) or raw["outcome"] not in get_args(Outcome):
            raise ValueError(f"unknown kind or outcome: {line[:120]!r}")
        return cls(**{**raw, "token_times": tuple(raw["token_times"])})


_FIELDS = dict.fromkeys(field.name for field in fields(Record))
"""Names of a record's fields, in their order. Asked for once: a long series writes and reads a hundred thousand records."""


def read_lines(lines: Iterable[str]) -> Iterator[Record]:
    """Yield the records of complete lines; a last line without a newline is still being written and is left out."""
    for line in lines:
        if line.endswith("\n"):
            yield Record.from_line(line)
