"""Hugging Face's tokenizers: `tokenizer.json`, computed by the tokenizers library, and a chat template beside it.

What the template writes may be control tokens; what a user writes never is, whatever it says. So a control token's name in a message
is put into the rendered text as a mark of its own, and encoded separately.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Encoder

from serving.text import TokenBytes
from serving.tokenizer.chat_template import ChatTemplate
from serving.tokenizer.conversation import BadConversation, Message
from serving.tokenizer.pieces import byte_level_bytes, sentencepiece_bytes

_SENTENCEPIECE = {"Replace", "ByteFallback", "Fuse", "Strip"}
"""Parts of a decoder that together decode as SentencePiece does."""
_LOSSLESS = {"Sequence", "Prepend", "Replace"}
"""Normalizers, as Llama has them, after which a text is not shorter."""


class BadTokenizer(ValueError):
    """The folder's tokenizer cannot be used; the message says why."""


class HuggingFace:
    """The tokenizer of one checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Load the tokenizer and the chat template.

        Raises:
            BadTokenizer, BadTemplate: one of them cannot be used.
        """
        self._encoder, self._as_text = _load(folder), _load(folder)
        self._as_text.encode_special_tokens = True
        self._template = ChatTemplate.read(folder)
        self.vocabulary = max(self._encoder.get_vocab().values()) + 1
        added = self._encoder.get_added_tokens_decoder()
        self._controls = {token.content: id for id, token in added.items() if token.special}
        described = json.loads(self._encoder.to_str())
        self.shrinks = not {part["type"] for part in _parts(described["normalizer"])} <= _LOSSLESS
        self._decoder = [part["type"] for part in _parts(described["decoder"])]
        if self._decoder != ["ByteLevel"] and not {"ByteFallback"} <= {*self._decoder} - {"Sequence"} <= _SENTENCEPIECE:
            raise BadTokenizer(f"{folder}/tokenizer.json: a decoder of {self._decoder or 'no type'} is not known here")
        # A mark cannot be guessed: its name is drawn when the process starts.
        self._marks = {name: f"<{secrets.token_hex(8)}>" for name in self._controls}
        self._encoder.add_tokens([AddedToken(mark, normalized=False) for mark in self._marks.values()])
        self._marked = {self._encoder.token_to_id(mark): self._plain(name) for name, mark in self._marks.items()}
        self._names = re.compile("|".join(map(re.escape, sorted(self._controls, key=len, reverse=True))) or r"(?!)")

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt of a conversation.

        Raises:
            BadConversation: the template does not accept it, or there is none.
        """
        if not self._template:
            raise BadConversation("this model has no chat template; /v1/completions continues a text")
        contents = [self._names.sub(lambda name: self._marks[name[0]], "\n".join(message.parts)) for message in messages]
        text = self._template.render([{"role": m.role, "content": content} for m, content in zip(messages, contents, strict=True)])
        ids = self._encoder.encode(text, add_special_tokens=False).ids
        return [plain for id in ids for plain in self._marked.get(id, (id,))]

    def completion(self, text: str) -> list[int]:
        """Return the text's tokens, with those that the tokenizer puts around every text."""
        return list(self._as_text.encode(text).ids)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        return str(self._as_text.decode(list(ids), skip_special_tokens=True))

    def token_bytes(self) -> TokenBytes:
        """Return the text of each token. A control token has none, and ends no character."""
        names = [self._as_text.id_to_token(id) for id in range(self.vocabulary)]
        others = {id: b"" for id, name in enumerate(names) if name is None or name in self._controls}
        if self._decoder == ["ByteLevel"]:
            return byte_level_bytes([name or "" for name in names], others)
        found = sentencepiece_bytes([name or "" for name in names], others)
        first = {id: piece[1:] for id, piece in enumerate(found.pieces) if piece and piece.startswith(b" ")}
        return TokenBytes(found.pieces, first if "Strip" in self._decoder else {}, found.errors)

    def _plain(self, text: str) -> list[int]:
        return list(self._as_text.encode(text, add_special_tokens=False).ids)


def _load(folder: Path) -> Any:
    try:
        encoder = Encoder.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise BadTokenizer(f"{folder}/tokenizer.json: {error}") from error
    # Some files cut or fill every text, as their model was trained.
    encoder.no_truncation()
    encoder.no_padding()
    return encoder


def _parts(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return a normalizer or decoder with all its parts; none if there is none."""
    if described is None:
        return []
    inner = described.get("normalizers") or described.get("decoders") or []
    return [described, *(part for each in inner for part in _parts(each))]
