"""Prompts of random words with an exact number of tokens, all different, so that no server can reuse what it computed for another."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence

_WORD = re.compile(b" [a-z]{4,}")


class Prompts:
    """Makes texts that a tokenizer encodes to a given number of tokens."""

    def __init__(self, pieces: Iterable[bytes | None], encode: Callable[[str], Sequence[int]], seed: int) -> None:
        """Create the generator.

        Args:
            pieces: the bytes of the tokenizer's tokens.
            encode: returns a text's tokens, `<s>` included.
        """
        self._words = [piece[1:].decode() for piece in pieces if piece and _WORD.fullmatch(piece)]
        self._encode = encode
        self._random = random.Random(seed)

    def some(self, number: int, tokens: int) -> list[str]:
        """Return `number` texts of `tokens` tokens each, `<s>` included."""
        return [self._one(tokens) for _ in range(number)]

    def _one(self, tokens: int) -> str:
        words = [self._random.choice(self._words) for _ in range(tokens)]
        # Most words are one token, the first may be two: begin with too many words and remove some.
        while len(self._encode(" ".join(words))) > tokens:
            words.pop()
        text = " ".join(words)
        return text if len(self._encode(text)) == tokens else self._one(tokens)
