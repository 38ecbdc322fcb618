"""Prompts of random words, each of exactly so many tokens, no two alike: nothing that was computed for one helps another."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence

_WORD = re.compile(b" [a-z]{4,}")


class Prompts:
    """Makes texts that a tokenizer turns into a given number of tokens."""

    def __init__(self, pieces: Iterable[bytes | None], encode: Callable[[str], Sequence[int]], seed: int) -> None:
        """`pieces`: what the tokenizer's tokens stand for. `encode`: a text's tokens, `<s>` included."""
        self._words = [piece[1:].decode() for piece in pieces if piece and _WORD.fullmatch(piece)]
        self._encode = encode
        self._random = random.Random(seed)

    def some(self, number: int, tokens: int) -> list[str]:
        """So many texts of so many tokens each, `<s>` included."""
        return [self._one(tokens) for _ in range(number)]

    def _one(self, tokens: int) -> str:
        words = [self._random.choice(self._words) for _ in range(tokens)]
        # Most words are one token each, the first may be two: too many are tried, then fewer.
        while len(self._encode(" ".join(words))) > tokens:
            words.pop()
        text = " ".join(words)
        return text if len(self._encode(text)) == tokens else self._one(tokens)
