"""Server-sent events as the service writes them and its clients read them. Standard library only.

A stream is OpenAI's: an event for each chunk, `data: {"choices": […]}`, and last `data: [DONE]`. A failure on the way is
told as `data: {"error": {…}}`, and no [DONE] follows: an end without [DONE] is never a whole answer.
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


def encode(data: Mapping[str, Any] | str) -> str:
    """An event as text, blank line included; a mapping becomes one line of JSON.

    Characters outside ASCII are escaped: some clients take U+2028 and its like for the end of a line.
    """
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n"


class Decoder:
    """Makes events of lines, fed one by one as they arrive."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def feed(self, line: bytes) -> Event | None:
        """The event that this line ends, if it ends one."""
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            field, _, value = text.partition(":")
            if field == "data":
                self._data.append(value[1:] if value.startswith(" ") else value)
            return None
        event = Event("\n".join(self._data)) if self._data else None
        self._data = []
        return event
