"""Mistral's own tokenizer and chat template, from mistral-common, which carries the vocabulary in its package."""

from __future__ import annotations

from collections.abc import Sequence

from mistral_common.protocol.instruct.messages import UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

VOCABULARY = 32768
"""Tokens of the v3 tokenizer, which Mistral-7B-Instruct-v0.3 uses."""
END = 2
"""The token with which the model ends its answer (`</s>`)."""


class Tokenizer:
    """Sentences to prompts and tokens to text."""

    def __init__(self) -> None:
        self._mistral = MistralTokenizer.v3()

    def prompt(self, sentence: str) -> list[int]:
        """The tokens of one user message in the instruct template, `<s>[INST] … [/INST]`."""
        request = ChatCompletionRequest(messages=[UserMessage(content=sentence)])
        return list(self._mistral.encode_chat_completion(request).tokens)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an answer's tokens; control tokens have none."""
        return self._mistral.decode(list(tokens))
