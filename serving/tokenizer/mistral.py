"""Mistral's own tokenizers and chat templates, from mistral-common.

The package contains vocabularies, so v3 (Mistral-7B-Instruct-v0.3) needs no download.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.chunk import TextChunk
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from serving.text import TokenBytes
from serving.tokenizer.conversation import BadConversation, Message
from serving.tokenizer.pieces import sentencepiece_bytes

VOCABULARY = 32768
"""Number of tokens of the v3 tokenizer."""
END = 2
"""The token of the v3 tokenizer with which the model ends its answer (`</s>`)."""

_MESSAGES = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}


class Mistral:
    """A tokenizer of one of Mistral's versions."""

    shrinks = False

    def __init__(self, file: Path | None = None) -> None:
        """Load the file; the packaged v3 if there is none.

        Raises:
            MistralCommonException: the version of the file is not known.
        """
        self._mistral: Any = MistralTokenizer.from_file(str(file)) if file else MistralTokenizer.v3()
        self._inner: Any = self._mistral.instruct_tokenizer.tokenizer
        self.vocabulary: int = self._inner.n_words

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt of a conversation.

        Raises:
            BadConversation: the template does not accept it.
        """
        turns = [_MESSAGES[message.role](content=[TextChunk(text=part) for part in _parts(message)]) for message in messages]
        try:
            return list(self._mistral.encode_chat_completion(ChatCompletionRequest(messages=turns)).tokens)
        except MistralCommonException as error:
            raise BadConversation(error.message) from None

    def completion(self, text: str) -> list[int]:
        """Return the beginning token and the text's tokens."""
        return list(self._inner.encode(text, bos=True, eos=False))

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        return str(self._mistral.decode(list(ids)))

    def token_bytes(self) -> TokenBytes:
        """Return the text of each token."""
        inner = self._inner
        if hasattr(inner, "id_to_byte_piece"):
            special = inner.num_special_tokens
            return TokenBytes([None if id < special else inner.id_to_byte_piece(id) for id in range(self.vocabulary)])
        others: dict[int, bytes | None] = {inner.unk_id: inner.decode([inner.unk_id]).encode()}
        others |= {id: None for id in range(self.vocabulary) if inner.is_special(id)}
        return sentencepiece_bytes([inner.id_to_piece(id) for id in range(self.vocabulary)], others)


def _parts(message: Message) -> Sequence[str]:
    """Return the texts of a message. An answer that ended at once is a space: mistral-common refuses an empty one, and drops the space."""
    return (" ",) if message.role == "assistant" and not any(message.parts) else message.parts
