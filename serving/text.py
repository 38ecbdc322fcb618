"""The text of an answer that grows token by token. Standard library only.

The returned texts together are exactly the text of all tokens decoded at once, up to a stop string. A character is never cut, no part of
a stop string is returned, and the cost of a token does not depend on how many came before it.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

EACH_BYTE = "leeward.each_byte"
"""Name of the error handler that decodes each invalid byte to one U+FFFD, as SentencePiece does; Python's own "replace" makes one of
several bytes."""

codecs.register_error(EACH_BYTE, lambda error: ("\N{REPLACEMENT CHARACTER}", getattr(error, "start", 0) + 1))


@dataclass(frozen=True)
class TokenBytes:
    """The bytes of each token of a vocabulary, and how they become text."""

    pieces: Sequence[bytes | None]
    """UTF-8 of each token, possibly only a part of a character. None: a control token, which has no text and ends an incomplete
    character; a token outside the vocabulary counts as one. Empty: a control token that ends none."""
    first: Mapping[int, bytes] = field(default_factory=dict)
    """UTF-8 of tokens that have another text at the beginning of a text: the tokenizer adds the space before the first word itself."""
    errors: str = "replace"
    """Name of the Python error handler that decodes invalid bytes."""


class GrowingText:
    """The text of one answer.

    `stops` are the strings that end it, none of them empty; the one that is complete first counts. With `continues` the answer continues a
    text, so its first word keeps the space before it.
    """

    def __init__(self, token_bytes: TokenBytes, stops: Sequence[str] = (), continues: bool = False) -> None:
        self._token_bytes = token_bytes
        self._stops = [_Stop(stop) for stop in stops]
        self._utf8 = codecs.getincrementaldecoder("utf-8")(token_bytes.errors)
        self._bare = not continues
        self._held = ""
        self.stopped = False
        """Whether a stop string is complete; nothing more is returned then."""

    def add(self, token: int) -> str:
        """Add a token, and return the text that it completes; empty inside a character or a possible stop string."""
        return self._past_stops(self._decoded(token))

    def rest(self) -> str:
        """Return the text that is still held back at the end of the answer."""
        text = self._past_stops(self._utf8.decode(b"", True))
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _decoded(self, token: int) -> str:
        pieces = self._token_bytes.pieces
        piece = pieces[token] if token < len(pieces) else None
        if piece is None:
            return self._utf8.decode(b"", True)
        if self._bare and piece:
            self._bare = False
            piece = self._token_bytes.first.get(token, piece)
        return self._utf8.decode(piece)

    def _past_stops(self, text: str) -> str:
        """Return the text that was held back and the new text, as far as no stop string can begin in it."""
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
    """A search for one string in text that arrives character by character (Knuth-Morris-Pratt): the cost is constant, however the text is
    cut into pieces. The table grows with the text, so a string that is longer than any answer costs no more than the answer."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.length = len(text)
        self.matched = 0
        """Length of the beginning of the string that the fed text ends with."""
        self._fallback = [0]

    def feed(self, char: str) -> bool:
        """Add a character; return whether it completes the string."""
        self.matched = self._next(self.matched, char)
        if self.matched > len(self._fallback):
            self._fallback.append(self._next(self._fallback[-1], char))
        return self.matched == self.length

    def _next(self, matched: int, char: str) -> int:
        while matched and self._text[matched] != char:
            matched = self._fallback[matched - 1]
        return matched + 1 if self._text[matched] == char else 0
