"""Server-sent events as the service writes them and its clients read them. Standard library only.

A stream is one event a token, `data: {"token": 17, "text": "…"}`; then `data: {"finish_reason": "length"}`; last
`data: [DONE]`. A failure on the way is told as `event: error` with `data: {"error": "…"}`, and no [DONE] follows: an
end without [DONE] is never a whole answer.
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
    name: str = "message"

    @property
    def last(self) -> bool:
        """Whether the answer is whole."""
        return self.data == DONE

    def json(self) -> dict[str, Any]:
        """The data of an event that is neither [DONE] nor broken.

        Raises:
            ValueError: the data is not a JSON object.
        """
        value = json.loads(self.data)
        if not isinstance(value, dict):
            raise ValueError(f"not an object: {self.data[:80]!r}")
        return value


def encode(data: Mapping[str, Any] | str, name: str = "") -> str:
    """An event as text, blank line included; a mapping becomes one line of JSON."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "") + f"data: {text}\n\n"


class Decoder:
    """Makes events of lines, fed one by one as they arrive."""

    def __init__(self) -> None:
        self._name = "message"
        self._data: list[str] = []

    def feed(self, line: bytes) -> Event | None:
        """The event that this line ends, if it ends one."""
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            field, _, value = text.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if field == "data":
                self._data.append(value)
            elif field == "event":
                self._name = value
            return None
        event = Event("\n".join(self._data), self._name) if self._data else None
        self._name, self._data = "message", []
        return event
