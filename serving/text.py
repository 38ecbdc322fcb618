"""Text of an answer that is still growing."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class GrowingText:
    """The text of an answer that grows token by token, handed out in pieces that never cut a character.

    One token may be one byte of a character, and the text of a token depends on those before it; so the whole
    answer is decoded each time, and what is new is given out once it ends in a whole character.
    """

    def __init__(self, text_of: Callable[[Sequence[int]], str]) -> None:
        self._text_of = text_of
        self._tokens: list[int] = []
        self._given = 0

    def add(self, token: int) -> str:
        """The text that this token completes; empty inside a character."""
        self._tokens.append(token)
        text = self._text_of(self._tokens)
        return "" if text.endswith("\N{REPLACEMENT CHARACTER}") else self._take(text)

    def rest(self) -> str:
        """What is still held back when the answer has ended."""
        return self._take(self._text_of(self._tokens))

    def _take(self, text: str) -> str:
        new = text[self._given :]
        self._given = max(self._given, len(text))
        return new
