"""Server-sent events as the service writes them. Standard library only.

A stream has OpenAI's format: an event for each chunk, `data: {"choices": […]}`, and at the end `data: [DONE]`. A failure after the start
is an event `data: {"error": {…}}`, and no [DONE] follows: a stream without [DONE] is never a complete answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MEDIA_TYPE = "text/event-stream"
DONE = "[DONE]"


def encode(data: Mapping[str, Any] | str) -> str:
    """Return an event as text, blank line included; a mapping becomes one line of JSON.

    Characters outside ASCII are escaped: some clients take U+2028 and similar characters for the end of a line.
    """
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n"
