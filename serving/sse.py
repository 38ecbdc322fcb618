"""Server-sent events as the service writes them and its clients read them. Standard library only.

A stream has OpenAI's format: an event for each chunk, `data: {"choices": […]}`, and at the end `data: [DONE]`. A failure after the start
is an event `data: {"error": {…}}`, and no [DONE] follows: a stream without [DONE] is never a complete answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MEDIA_TYPE = "text/event-stream"
DONE = "[DONE]"


@dataclass(frozen=True)
class Event:
    """One event of a stream."""

    data: str

    @property
    def last(self) -> bool:
        """Whether the answer is complete."""
        return self.data == DONE

    def json(self) -> dict[str, Any]:
        """Return the data of an event other than [DONE].

        Raises:
            ValueError: the data is not a JSON object.
        """
        value = json.loads(self.data)
        if not isinstance(value, dict):
            raise ValueError(f"not an object: {self.data[:80]!r}")
        return value


def encode(data: Mapping[str, Any] | str) -> str:
    """Return an event as text, blank line included; a mapping becomes one line of JSON.

    Characters outside ASCII are escaped: some clients take U+2028 and similar characters for the end of a line.
    """
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n"


class Decoder:
    """Turns lines into events; the lines are fed one by one as they arrive."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def feed(self, line: bytes) -> Event | None:
        """Add a line, and return the event that it completes, if it completes one."""
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            field, _, value = text.partition(":")
            if field == "data":
                self._data.append(value[1:] if value.startswith(" ") else value)
            return None
        event = Event("\n".join(self._data)) if self._data else None
        self._data = []
        return event
