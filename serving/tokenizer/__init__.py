"""A checkpoint's tokenizer and chat template, behind one small adapter.

There are two kinds: Mistral's own files (serving.tokenizer.mistral), and Hugging Face's `tokenizer.json` with a chat template
(serving.tokenizer.hugging_face). A checkpoint without a tokenizer gets Mistral's v3, which is packaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from serving.text import TokenBytes
from serving.tokenizer.conversation import BadConversation, Message
from serving.tokenizer.hugging_face import HuggingFace
from serving.tokenizer.mistral import Mistral


class _Kind(Protocol):
    """One kind of tokenizer."""

    vocabulary: int
    shrinks: bool
    """Whether it may change a text before encoding it, so that the text's length says nothing about its tokens."""

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt of a conversation; raises BadConversation."""

    def completion(self, text: str) -> list[int]:
        """Return the prompt of a text that is continued."""

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens."""

    def token_bytes(self) -> TokenBytes:
        """Return the text of each token."""


class Tokenizer:
    """Turns conversations and texts into prompts, and tokens into text. Several threads may use it at the same time."""

    def __init__(self, checkpoint: Path | None = None) -> None:
        """Load the tokenizer in the checkpoint's folder; the packaged v3 if it has none, or there is no folder.

        Raises:
            MistralCommonException: the version of Mistral's file in the folder is not known.
            BadTokenizer: tokenizer.json or the chat template cannot be used.
        """
        self._kind = _kind_of(checkpoint)
        self.vocabulary = self._kind.vocabulary
        """Number of tokens in the vocabulary."""

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt of a conversation. Its last turn must be the user's.

        Raises:
            BadConversation: the template does not accept it.
        """
        if not messages or messages[-1].role != "user":
            raise BadConversation("the last message must be the user's")
        return self._kind.chat(messages)

    def completion(self, text: str) -> list[int]:
        """Return the prompt of a text that the model shall continue: the text's tokens, after a beginning token if the model has one."""
        return self._kind.completion(text)

    def at_least(self, text: str) -> int:
        """Return the least number of tokens that the text can have, without encoding it."""
        return 0 if self._kind.shrinks else math.ceil(len(text.encode()) / self._longest)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens of the vocabulary; control tokens have none."""
        return self._kind.text(ids)

    @cached_property
    def token_bytes(self) -> TokenBytes:
        """The text of each token, to decode an answer as it grows (serving.text)."""
        return self._kind.token_bytes()

    @cached_property
    def _longest(self) -> int:
        """Number of bytes of the longest token."""
        return max(len(piece or b"") for piece in self.token_bytes.pieces)


def _kind_of(checkpoint: Path | None) -> _Kind:
    """Return the tokenizer of a checkpoint. A `tokenizer.model` without a version in its name may be Llama's, so it comes last."""
    if checkpoint:
        for pattern in ("tekken.json", "tokenizer.model.v*", "tokenizer.json", "tokenizer.model"):
            if found := sorted(checkpoint.glob(pattern)):
                return HuggingFace(checkpoint) if pattern == "tokenizer.json" else Mistral(found[-1])
    return Mistral()
