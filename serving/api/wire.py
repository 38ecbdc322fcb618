"""Answers as bytes: OpenAI's JSON, complete or in chunks, and the list for older clients.

The JSON is written by hand: a chunk is made for every token of every stream, and only its text and ids are new.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Literal, Protocol

from serving import sse

Usage = Literal["", "last", "each"]
"""Chunks of a stream that have the number of tokens: none, one more chunk before the end, or that one and each other."""


class Encoder(Protocol):
    """Writes complete answers in one format."""

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """Return the complete answer."""


class StreamEncoder(Encoder, Protocol):
    """Writes answers in one format, complete or in chunks."""

    def opening(self, prompt_tokens: int) -> bytes:
        """Return the bytes before the first chunk."""

    def chunk(self, text: str, ids: Sequence[int], prompt_tokens: int, tokens: int) -> bytes:
        """Return the event for some tokens; the text may be empty. `tokens`: how many there are so far, with these."""

    def closing(self, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        """Return the events after the last token, [DONE] included."""


class _OpenAI:
    """Common part of the formats of chat and completions."""

    def __init__(self, id: str, object: str, chunk_object: str, model: str, with_ids: bool, usage: Usage) -> None:
        common = {"created": int(time.time()), "model": model}
        self._head = json.dumps({"id": id, "object": object, **common})[:-1]
        self._chunk_head = json.dumps({"id": id, "object": chunk_object, **common})[:-1]
        self._with_ids = with_ids
        self._usage = usage

    def _choice(self, content: str, ids: Sequence[int], finish: str | None) -> str:
        token_ids = f', "token_ids": {json.dumps(list(ids))}' if self._with_ids else ""
        return f'{{"index": 0, {content}, "logprobs": null, "finish_reason": {json.dumps(finish)}{token_ids}}}'

    def _answer(self, content: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        choice = self._choice(content, ids, finish)
        return f'{self._head}, "choices": [{choice}], "usage": {_usage(prompt_tokens, len(ids))}}}'.encode()

    def _event(self, content: str, prompt_tokens: int, tokens: int, ids: Sequence[int] = (), finish: str | None = None) -> bytes:
        usage = ""
        if self._usage:  # then every chunk of OpenAI's has the field
            usage = f', "usage": {_usage(prompt_tokens, tokens) if self._usage == "each" else "null"}'
        return sse.encode(f'{self._chunk_head}, "choices": [{self._choice(content, ids, finish)}]{usage}}}').encode()

    def _end(self, content: str, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        usage = f'{self._chunk_head}, "choices": [], "usage": {_usage(prompt_tokens, tokens)}}}'
        last = self._event(content, prompt_tokens, tokens, (), finish)
        return b"".join((last, sse.encode(usage).encode() if self._usage else b"", sse.encode(sse.DONE).encode()))


class ChatEncoder(_OpenAI):
    """Writes a `chat.completion` or its chunks."""

    def __init__(self, id: str, model: str, with_ids: bool, usage: Usage) -> None:
        super().__init__(id, "chat.completion", "chat.completion.chunk", model, with_ids, usage)

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """Return the complete answer."""
        message = f'"message": {{"role": "assistant", "content": {json.dumps(text)}, "refusal": null}}'
        return self._answer(message, ids, finish, prompt_tokens)

    def opening(self, prompt_tokens: int) -> bytes:
        """Return a chunk that has only the role."""
        return self._event('"delta": {"role": "assistant", "content": "", "refusal": null}', prompt_tokens, 0)

    def chunk(self, text: str, ids: Sequence[int], prompt_tokens: int, tokens: int) -> bytes:
        """Return the event for some tokens."""
        return self._event(f'"delta": {{"content": {json.dumps(text)}}}', prompt_tokens, tokens, ids)

    def closing(self, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        """Return the finish reason, the usage if requested, and [DONE]."""
        return self._end('"delta": {}', finish, prompt_tokens, tokens)


class CompletionEncoder(_OpenAI):
    """Writes a `text_completion` or its chunks."""

    def __init__(self, id: str, model: str, with_ids: bool, usage: Usage) -> None:
        super().__init__(id, "text_completion", "text_completion", model, with_ids, usage)

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """Return the complete answer."""
        return self._answer(f'"text": {json.dumps(text)}', ids, finish, prompt_tokens)

    def opening(self, prompt_tokens: int) -> bytes:
        """Return nothing: this format has no role."""
        return b""

    def chunk(self, text: str, ids: Sequence[int], prompt_tokens: int, tokens: int) -> bytes:
        """Return the event for some tokens."""
        return self._event(f'"text": {json.dumps(text)}', prompt_tokens, tokens, ids)

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
