"""Answers as bytes: OpenAI's JSON, complete or in chunks, and the list for older clients.

The JSON is written by hand: a chunk is made for every token of every stream, and only its text and ids are new.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Protocol

from serving import sse


class Encoder(Protocol):
    """Writes complete answers in one format."""

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """Return the complete answer."""


class StreamEncoder(Encoder, Protocol):
    """Writes answers in one format, complete or in chunks."""

    def opening(self) -> bytes:
        """Return the bytes before the first chunk."""

    def chunk(self, text: str, ids: Sequence[int]) -> bytes:
        """Return the event for some tokens; the text may be empty."""

    def closing(self, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        """Return the events after the last token, [DONE] included."""


class _OpenAI:
    """Common part of the formats of chat and completions."""

    def __init__(self, id: str, object: str, chunk_object: str, model: str, with_ids: bool, with_usage: bool) -> None:
        common = {"created": int(time.time()), "model": model}
        self._head = json.dumps({"id": id, "object": object, **common})[:-1]
        self._chunk_head = json.dumps({"id": id, "object": chunk_object, **common})[:-1]
        self._with_ids = with_ids
        self._with_usage = with_usage
        # If usage is requested, every chunk of OpenAI's has the field.
        self._no_usage = ', "usage": null' if with_usage else ""

    def _choice(self, content: str, ids: Sequence[int], finish: str | None) -> str:
        token_ids = f', "token_ids": {json.dumps(list(ids))}' if self._with_ids else ""
        return f'{{"index": 0, {content}, "logprobs": null, "finish_reason": {json.dumps(finish)}{token_ids}}}'

    def _answer(self, content: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        choice = self._choice(content, ids, finish)
        return f'{self._head}, "choices": [{choice}], "usage": {_usage(prompt_tokens, len(ids))}}}'.encode()

    def _event(self, content: str, ids: Sequence[int] = (), finish: str | None = None) -> bytes:
        return sse.encode(f'{self._chunk_head}, "choices": [{self._choice(content, ids, finish)}]{self._no_usage}}}').encode()

    def _end(self, content: str, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        usage = f'{self._chunk_head}, "choices": [], "usage": {_usage(prompt_tokens, tokens)}}}'
        events = (self._event(content, (), finish), sse.encode(usage).encode() if self._with_usage else b"", sse.encode(sse.DONE).encode())
        return b"".join(events)


class ChatEncoder(_OpenAI):
    """Writes a `chat.completion` or its chunks."""

    def __init__(self, id: str, model: str, with_ids: bool, with_usage: bool) -> None:
        super().__init__(id, "chat.completion", "chat.completion.chunk", model, with_ids, with_usage)

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """Return the complete answer."""
        message = f'"message": {{"role": "assistant", "content": {json.dumps(text)}, "refusal": null}}'
        return self._answer(message, ids, finish, prompt_tokens)

    def opening(self) -> bytes:
        """Return a chunk that has only the role."""
        return self._event('"delta": {"role": "assistant", "content": "", "refusal": null}')

    def chunk(self, text: str, ids: Sequence[int]) -> bytes:
        """Return the event for some tokens."""
        return self._event(f'"delta": {{"content": {json.dumps(text)}}}', ids)

    def closing(self, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        """Return the finish reason, the usage if requested, and [DONE]."""
        return self._end('"delta": {}', finish, prompt_tokens, tokens)


class CompletionEncoder(_OpenAI):
    """Writes a `text_completion` or its chunks."""

    def __init__(self, id: str, model: str, with_ids: bool, with_usage: bool) -> None:
        super().__init__(id, "text_completion", "text_completion", model, with_ids, with_usage)

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """Return the complete answer."""
        return self._answer(f'"text": {json.dumps(text)}', ids, finish, prompt_tokens)

    def opening(self) -> bytes:
        """Return nothing: this format has no role."""
        return b""

    def chunk(self, text: str, ids: Sequence[int]) -> bytes:
        """Return the event for some tokens."""
        return self._event(f'"text": {json.dumps(text)}', ids)

    def closing(self, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        """Return the finish reason, the usage if requested, and [DONE]."""
        return self._end('"text": ""', finish, prompt_tokens, tokens)


class ListEncoder:
    """Writes a list with one text, for `GET /infer`."""

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """Return a list with the one text."""
        return json.dumps([text]).encode()


def _usage(prompt_tokens: int, tokens: int) -> str:
    return json.dumps({"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens})
