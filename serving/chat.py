"""A page to talk to the service, on port 7860.

    LEEWARD_URL=http://SERVICE:8000 python -m serving.chat

It forwards the last message to the streamed form of the service and shows the answer as it grows. The model has random
weights, so the words are noise, and the page says so.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from serving.sse import Decoder

PORT = 7860
TOKENS = 40
PATIENCE_S = 30.0
"""Seconds without a byte before the answer is given up."""
NOTE = "This model has random weights: its words are noise. What is real is that it keeps answering."


class NoAnswer(Exception):
    """The service gave no whole answer; the message is for the person who asked."""


def answer(url: str, sentence: str, tokens: int = TOKENS) -> Iterator[str]:
    """The answer so far, again and again as it grows.

    Raises:
        NoAnswer: the service cannot be reached, refuses, or breaks off.
    """
    query = urllib.parse.urlencode({"sentence": sentence, "max_tokens": tokens})
    text = ""
    try:
        with urllib.request.urlopen(f"{url}/infer/stream?{query}", timeout=PATIENCE_S) as response:
            for piece in _pieces(response):
                text += piece
                yield text
    except urllib.error.HTTPError as error:
        raise NoAnswer(f"The service refused: {_reason(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        what = "The answer broke off" if text else "The service cannot be reached"
        raise NoAnswer(f"{what}: {error}. Try again in a moment.") from error


def _pieces(lines: Iterator[bytes]) -> Iterator[str]:
    """The text of each event, until [DONE]."""
    decoder = Decoder()
    for event in filter(None, map(decoder.feed, lines)):
        if event.last:
            return
        data = event.json()
        if event.name == "error":
            raise NoAnswer(f"The answer broke off: {data.get('error')}")
        yield str(data.get("text", ""))
    raise NoAnswer("The answer broke off.")


def _reason(error: urllib.error.HTTPError) -> str:
    """What a refusal says: `detail` is a sentence, or a list with one for each wrong parameter."""
    try:
        detail: Any = json.loads(error.read())["detail"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
    return detail if isinstance(detail, str) else "; ".join(str(item.get("msg", item)) for item in detail)


def main() -> None:
    """Serve the page until killed."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr  # only the chat image has it

    url = os.environ["LEEWARD_URL"].rstrip("/")

    def reply(message: str, history: list[Any]) -> Iterator[str]:
        try:
            yield from answer(url, message)
        except NoAnswer as error:
            raise gr.Error(str(error)) from error

    page = gr.ChatInterface(reply, title="Leeward", description=NOTE, api_name="chat")
    page.launch(server_name="0.0.0.0", server_port=PORT, quiet=True, show_error=True)


if __name__ == "__main__":
    main()
