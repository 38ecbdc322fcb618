"""Answers from a model, for many requests at once on one event loop.

The model computes one token at a time in a small pool of threads, so the loop stays free to serve health checks and
other streams. A client that goes away closes its generator, and nothing more is computed for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from serving.settings import Settings


class PromptTooLong(ValueError):
    """The sentence has more tokens than the service takes; the message says how many."""


class Model(Protocol):
    """What computes tokens (serving.model.Model; a few lines of Python in tests)."""

    def tokens(self, prompt: Sequence[int], limit: int) -> Iterator[int]:
        """At most `limit` tokens of answer."""


class Tokenizer(Protocol):
    """What turns a sentence into a prompt and tokens into text (serving.tokenizer.Tokenizer)."""

    def prompt(self, sentence: str) -> list[int]:
        """The tokens of the sentence in the model's template."""

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens."""


class Generator:
    """A model and its tokenizer behind a pool of threads."""

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: Settings) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="model")

    def prompt(self, sentence: str) -> list[int]:
        """The prompt of a sentence.

        Raises:
            PromptTooLong: it has more than `max_prompt_tokens` tokens.
        """
        tokens, most = self._tokenizer.prompt(sentence), self._settings.max_prompt_tokens
        if len(tokens) > most:
            raise PromptTooLong(f"the sentence has {len(tokens)} tokens with its template; at most {most} are taken")
        return tokens

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an answer's tokens."""
        return self._tokenizer.text(tokens)

    async def tokens(self, prompt: Sequence[int], limit: int, per_s: float | None = None) -> AsyncIterator[int]:
        """The answer token by token; with `per_s` no faster than that, counted from the first token.

        Pacing follows a schedule, not the gap before: one slow token does not delay all that follow.
        """
        loop = asyncio.get_running_loop()
        source, first = self._model.tokens(prompt, limit), 0.0
        for n in range(limit):
            token = await loop.run_in_executor(self._pool, next, source, None)
            if token is None:
                return
            if n == 0:
                first = loop.time()
            elif per_s:
                await asyncio.sleep(max(0.0, first + n / per_s - loop.time()))
            yield token

    async def probe(self) -> None:
        """Compute one token, whatever it is: raises what the model raises when it cannot."""
        async for _ in self.tokens(self._tokenizer.prompt("ping"), limit=1):
            pass
