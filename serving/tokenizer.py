"""Mistral's own tokenizers and chat templates, from mistral-common, behind one small adapter.

The package of mistral-common contains vocabularies, so v3 (Mistral-7B-Instruct-v0.3) needs no download. If a checkpoint has a tokenizer
of its own, that is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.chunk import TextChunk
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from serving.text import EACH_BYTE, TokenBytes

VOCABULARY = 32768
"""Number of tokens of the v3 tokenizer."""
END = 2
"""The token of the v3 tokenizer with which the model ends its answer (`</s>`)."""

Role = Literal["system", "user", "assistant"]
_MESSAGES = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}


class BadConversation(ValueError):
    """The template does not accept these messages in this order; the message says why."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str | Sequence[str]
    """One text, or parts that the template joins."""

    @property
    def parts(self) -> Sequence[str]:
        """The texts of the message."""
        return (self.content,) if isinstance(self.content, str) else self.content


class Tokenizer:
    """Turns conversations and texts into prompts, and tokens into text. Several threads may use it at the same time."""

    def __init__(self, checkpoint: Path | None = None) -> None:
        """Load the tokenizer in the checkpoint's folder; the packaged v3 if it has none, or there is no folder.

        Raises:
            MistralCommonException: the version of the file in the folder is not known.
        """
        own = _own_file(checkpoint) if checkpoint else None
        self._mistral: Any = MistralTokenizer.from_file(str(own)) if own else MistralTokenizer.v3()
        self._inner: Any = self._mistral.instruct_tokenizer.tokenizer
        self.vocabulary: int = self._inner.n_words
        """Number of tokens in the vocabulary."""

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt of a conversation. Its last turn must be the user's.

        Raises:
            BadConversation: the template does not accept it.
        """
        if not messages or messages[-1].role != "user":
            raise BadConversation("the last message must be the user's")
        if any(message.role == "assistant" and not any(message.parts) for message in messages):
            raise BadConversation("a message of the assistant has no text")
        turns = [_MESSAGES[message.role](content=[TextChunk(text=part) for part in message.parts]) for message in messages]
        try:
            return list(self._mistral.encode_chat_completion(ChatCompletionRequest(messages=turns)).tokens)
        except MistralCommonException as error:
            raise BadConversation(error.message) from None

    def completion(self, text: str) -> list[int]:
        """Return the prompt of a text that the model shall continue: the beginning token and the text's tokens."""
        return list(self._inner.encode(text, bos=True, eos=False))

    def at_least(self, text: str) -> int:
        """Return the least number of tokens that the text can have, without encoding it."""
        return math.ceil(len(text.encode()) / self._longest)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens of the vocabulary; control tokens have none."""
        return str(self._mistral.decode(list(ids)))

    @cached_property
    def token_bytes(self) -> TokenBytes:
        """The text of each token, to decode an answer as it grows (serving.text)."""
        if hasattr(self._inner, "id_to_byte_piece"):
            special = self._inner.num_special_tokens
            return TokenBytes([None if id < special else self._inner.id_to_byte_piece(id) for id in range(self.vocabulary)])
        return _sentencepiece_bytes([self._inner.id_to_piece(id) for id in range(self.vocabulary)], self._inner)

    @cached_property
    def _longest(self) -> int:
        """Number of bytes of the longest token."""
        return max(len(piece or b"") for piece in self.token_bytes.pieces)


def _own_file(checkpoint: Path) -> Path | None:
    """Return the tokenizer file of a checkpoint. A file with a version in its name is preferred: the bare name means v1."""
    for pattern in ("tekken.json", "tokenizer.model.v*", "tokenizer.model"):
        if found := sorted(checkpoint.glob(pattern)):
            return found[-1]
    return None


_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""SentencePiece's character for a space."""


def _sentencepiece_bytes(names: Sequence[str], inner: Any) -> TokenBytes:
    """Return the bytes of tokens with these names: `<0x41>` is a byte, others are text."""
    pieces: list[bytes | None] = []
    first: dict[int, bytes] = {}
    for id, name in enumerate(names):
        if inner.is_special(id):
            pieces.append(None)
        elif id == inner.unk_id:
            pieces.append(inner.decode([id]).encode())
        elif len(name) == 6 and name.startswith("<0x"):
            pieces.append(bytes([int(name[3:5], 16)]))
        else:
            pieces.append(name.replace(_SPACE, " ").encode())
            if name.startswith(_SPACE):
                first[id] = name[1:].replace(_SPACE, " ").encode()
    return TokenBytes(pieces, first, EACH_BYTE)
