"""Text of an answer that grows token by token. Standard library only.

What is given out, put together, is exactly the text of all tokens decoded at once, up to a stop string. A character is
never cut, a stop string is never begun, and what a token costs does not depend on how many came before it.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

EACH_BYTE = "leeward.each_byte"
"""Name of the error handler that makes one U+FFFD of each byte that is no part of a character, as SentencePiece does;
Python's own "replace" makes one of several."""

codecs.register_error(EACH_BYTE, lambda error: ("\N{REPLACEMENT CHARACTER}", getattr(error, "start", 0) + 1))


@dataclass(frozen=True)
class Alphabet:
    """What the tokens of a vocabulary stand for."""

    pieces: Sequence[bytes | None]
    """UTF-8 of each token, maybe only a part of a character. None: a control token, which has no text and ends what a
    character's bytes have begun; a token outside the vocabulary counts as one."""
    first: Mapping[int, bytes] = field(default_factory=dict)
    """What tokens stand for at the beginning of a text, where that differs: the space before the first word is the
    tokenizer's own."""
    errors: str = "replace"
    """Python's name of how bytes that are no character are decoded."""


class GrowingText:
    """The text of one answer.

    `stops` are the strings that end it, none of them empty; of several the one that is whole first counts. With
    `continues` the answer goes on from a text, so its first word keeps the space before it.
    """

    def __init__(self, alphabet: Alphabet, stops: Sequence[str] = (), continues: bool = False) -> None:
        self._alphabet = alphabet
        self._stops = [_Stop(stop) for stop in stops]
        self._utf8 = codecs.getincrementaldecoder("utf-8")(alphabet.errors)
        self._bare = not continues
        self._held = ""
        self.stopped = False
        """Whether a stop string is whole; nothing more is given out."""

    def add(self, token: int) -> str:
        """The text that this token completes; empty inside a character or what may become a stop string."""
        return self._past_stops(self._decoded(token))

    def rest(self) -> str:
        """What is still held back when the answer has ended."""
        text = self._past_stops(self._utf8.decode(b"", True))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _decoded(self, token: int) -> str:
        pieces = self._alphabet.pieces
        piece = pieces[token] if token < len(pieces) else None
        if piece is None:
            return self._utf8.decode(b"", True)
        if self._bare:
            self._bare = False
            piece = self._alphabet.first.get(token, piece)
        return self._utf8.decode(piece)

    def _past_stops(self, text: str) -> str:
        """What of the text can be given out, and what was held back before it."""
        if not self._stops:
            return text
        if self.stopped:
            return ""
        self._held += text
        first = len(self._held) - len(text)
        for n, char in enumerate(text, first + 1):
            found = max((stop.length for stop in self._stops if stop.feed(char)), default=0)
            if found:
                self.stopped = True
                return self._take(n - found)
        return self._take(len(self._held) - max(stop.matched for stop in self._stops))

    def _take(self, count: int) -> str:
        given, self._held = self._held[:count], self._held[count:]
        return given


class _Stop:
    """A search for one string that is fed a character at a time (Knuth, Morris and Pratt's): constant cost, however the
    text is cut into pieces. Of a string that is longer than any answer no more is looked at than has come."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.length = len(text)
        self.matched = 0
        """Characters at the end of what was fed with which the string begins."""
        self._fallback = [0]

    def feed(self, char: str) -> bool:
        """Whether this character makes the string whole."""
        self.matched = self._next(self.matched, char)
        if self.matched > len(self._fallback):
            self._fallback.append(self._next(self._fallback[-1], char))
        return self.matched == self.length

    def _next(self, matched: int, char: str) -> int:
        while matched and self._text[matched] != char:
            matched = self._fallback[matched - 1]
        return matched + 1 if self._text[matched] == char else 0
