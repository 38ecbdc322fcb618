"""The bytes of a vocabulary's tokens, from the names that they have in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.text import EACH_BYTE, TokenBytes

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""SentencePiece's character for a space."""


def sentencepiece_bytes(names: Sequence[str], others: Mapping[int, bytes | None]) -> TokenBytes:
    """Return the bytes of SentencePiece's tokens: `<0x41>` is a byte, other names are text. `others` are tokens whose names say nothing."""
    pieces: list[bytes | None] = []
    first: dict[int, bytes] = {}
    for id, name in enumerate(names):
        if id in others:
            pieces.append(others[id])
        elif len(name) == 6 and name.startswith("<0x"):
            pieces.append(bytes([int(name[3:5], 16)]))
        else:
            pieces.append(name.replace(SPACE, " ").encode())
            if name.startswith(SPACE):
                first[id] = name[1:].replace(SPACE, " ").encode()
    return TokenBytes(pieces, first, EACH_BYTE)


def byte_level_bytes(names: Sequence[str], others: Mapping[int, bytes | None]) -> TokenBytes:
    """Return the bytes of byte-level tokens: each character stands for a byte. A name with another character is text as it is."""
    table = _byte_characters()
    pieces = [bytes(map(table.__getitem__, name)) if table.keys() >= set(name) else name.encode() for name in names]
    return TokenBytes([others.get(id, piece) for id, piece in enumerate(pieces)])


def _byte_characters() -> dict[str, int]:
    """Return the byte of each character of byte-level vocabularies: printable ones stand for themselves, others for U+0100 and on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}
