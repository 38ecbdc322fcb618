"""Mistral's own tokenizers and chat templates, from mistral-common, behind one small adapter.

mistral-common carries vocabularies in its package, so the v3 one (Mistral-7B-Instruct-v0.3) needs no download; a
checkpoint that brings its own is read with that.
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

from serving.text import EACH_BYTE, Alphabet

VOCABULARY = 32768
"""Tokens of the v3 tokenizer."""
END = 2
"""The token of the v3 tokenizer with which the model ends its answer (`</s>`)."""

Role = Literal["system", "user", "assistant"]
_MESSAGES = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}


class BadConversation(ValueError):
    """The template has no place for these messages in this order; the sentence says why."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str | Sequence[str]
    """One text, or parts that the template joins in its own way."""

    @property
    def parts(self) -> Sequence[str]:
        """The texts in it."""
        return (self.content,) if isinstance(self.content, str) else self.content


class Tokenizer:
    """Conversations and texts to prompts, and tokens to text. Can be used by several threads at once."""

    def __init__(self, checkpoint: Path | None = None) -> None:
        """The tokenizer in the checkpoint's folder; the packaged v3 when it has none, or there is no folder.

        Raises:
            MistralCommonException: the file in the folder is of a version that is not known.
        """
        own = _own_file(checkpoint) if checkpoint else None
        self._mistral: Any = MistralTokenizer.from_file(str(own)) if own else MistralTokenizer.v3()
        self._inner: Any = self._mistral.instruct_tokenizer.tokenizer
        self.vocabulary: int = self._inner.n_words
        """Tokens there are."""
        self.end: frozenset[int] = frozenset({self._inner.eos_id})
        """Tokens with which the model ends its answer."""

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """The prompt of a conversation, whose last turn is the user's.

        Raises:
            BadConversation: the template does not take it.
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
        """The prompt of a text that the model is to go on with: the beginning token and the text's."""
        return list(self._inner.encode(text, bos=True, eos=False))

    def at_least(self, text: str) -> int:
        """Tokens that the text has at the least, found without encoding it."""
        return math.ceil(len(text.encode()) / self._longest)

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens of the vocabulary; control tokens have none."""
        return str(self._mistral.decode(list(ids)))

    @cached_property
    def alphabet(self) -> Alphabet:
        """What each token stands for: with it an answer is decoded as it grows (serving.text)."""
        if hasattr(self._inner, "id_to_byte_piece"):
            special = self._inner.num_special_tokens
            return Alphabet([None if id < special else self._inner.id_to_byte_piece(id) for id in range(self.vocabulary)])
        return _sentencepiece_alphabet([self._inner.id_to_piece(id) for id in range(self.vocabulary)], self._inner)

    @cached_property
    def _longest(self) -> int:
        """Bytes of the longest token."""
        return max(len(piece or b"") for piece in self.alphabet.pieces)


def _own_file(checkpoint: Path) -> Path | None:
    """The tokenizer that a checkpoint brings. A file that names its version goes first: the bare name means v1."""
    for pattern in ("tekken.json", "tokenizer.model.v*", "tokenizer.model"):
        if found := sorted(checkpoint.glob(pattern)):
            return found[-1]
    return None


_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space."""


def _sentencepiece_alphabet(names: Sequence[str], inner: Any) -> Alphabet:
    """An alphabet from the names of its tokens: `<0x41>` is a byte, others are text."""
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
    return Alphabet(pieces, first, EACH_BYTE)
