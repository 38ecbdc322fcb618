"""Answers as bytes: OpenAI's JSON, whole or in chunks, and the old clients' list.

Written by hand: a chunk is made for every token of every stream, and only its text and ids are new.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Protocol

from serving import sse


class Form(Protocol):
    """How an answer is written."""

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """The answer in one piece."""


class StreamForm(Form, Protocol):
    """How an answer is written that may also come in chunks."""

    def opening(self) -> bytes:
        """What comes before the first chunk."""

    def chunk(self, text: str, ids: Sequence[int]) -> bytes:
        """The event of some tokens; the text may be empty."""

    def closing(self, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        """The events after the last token, [DONE] included."""


class _OpenAI:
    """What chat and completions have in common."""

    def __init__(self, id: str, object: str, chunk_object: str, model: str, with_ids: bool, with_usage: bool) -> None:
        common = {"created": int(time.time()), "model": model}
        self._head = json.dumps({"id": id, "object": object, **common})[:-1]
        self._chunk_head = json.dumps({"id": id, "object": chunk_object, **common})[:-1]
        self._with_ids = with_ids
        self._with_usage = with_usage
        # With usage asked for, OpenAI's chunks have the field in all of them.
        self._no_usage = ', "usage": null' if with_usage else ""

    def _choice(self, said: str, ids: Sequence[int], finish: str | None) -> str:
        told = f', "token_ids": {json.dumps(list(ids))}' if self._with_ids else ""
        return f'{{"index": 0, {said}, "logprobs": null, "finish_reason": {json.dumps(finish)}{told}}}'

    def _answer(self, said: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        choice = self._choice(said, ids, finish)
        return f'{self._head}, "choices": [{choice}], "usage": {_usage(prompt_tokens, len(ids))}}}'.encode()

    def _event(self, said: str, ids: Sequence[int] = (), finish: str | None = None) -> bytes:
        return sse.encode(f'{self._chunk_head}, "choices": [{self._choice(said, ids, finish)}]{self._no_usage}}}').encode()

    def _end(self, said: str, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        usage = f'{self._chunk_head}, "choices": [], "usage": {_usage(prompt_tokens, tokens)}}}'
        events = (self._event(said, (), finish), sse.encode(usage).encode() if self._with_usage else b"", sse.encode(sse.DONE).encode())
        return b"".join(events)


class ChatForm(_OpenAI):
    """`chat.completion` and its chunks."""

    def __init__(self, id: str, model: str, with_ids: bool, with_usage: bool) -> None:
        super().__init__(id, "chat.completion", "chat.completion.chunk", model, with_ids, with_usage)

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """The answer in one piece."""
        message = f'"message": {{"role": "assistant", "content": {json.dumps(text)}, "refusal": null}}'
        return self._answer(message, ids, finish, prompt_tokens)

    def opening(self) -> bytes:
        """A chunk that only says who speaks."""
        return self._event('"delta": {"role": "assistant", "content": "", "refusal": null}')

    def chunk(self, text: str, ids: Sequence[int]) -> bytes:
        """The event of some tokens."""
        return self._event(f'"delta": {{"content": {json.dumps(text)}}}', ids)

    def closing(self, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        """Why it ended, usage when wanted, [DONE]."""
        return self._end('"delta": {}', finish, prompt_tokens, tokens)


class CompletionForm(_OpenAI):
    """`text_completion`, whole and in chunks."""

    def __init__(self, id: str, model: str, with_ids: bool, with_usage: bool) -> None:
        super().__init__(id, "text_completion", "text_completion", model, with_ids, with_usage)

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """The answer in one piece."""
        return self._answer(f'"text": {json.dumps(text)}', ids, finish, prompt_tokens)

    def opening(self) -> bytes:
        """Nothing: there is no role to tell."""
        return b""

    def chunk(self, text: str, ids: Sequence[int]) -> bytes:
        """The event of some tokens."""
        return self._event(f'"text": {json.dumps(text)}', ids)

    def closing(self, finish: str, prompt_tokens: int, tokens: int) -> bytes:
        """Why it ended, usage when wanted, [DONE]."""
        return self._end('"text": ""', finish, prompt_tokens, tokens)


class ListForm:
    """A list with one text: what `GET /infer` has always answered."""

    def whole(self, text: str, ids: Sequence[int], finish: str, prompt_tokens: int) -> bytes:
        """The list."""
        return json.dumps([text]).encode()


def _usage(prompt_tokens: int, tokens: int) -> str:
    return json.dumps({"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens})
